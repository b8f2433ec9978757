"""The documents say what the code does: fields, examples, commands, exit codes, rooms."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml

from rehydrator.cli import cli
from rehydrator.errors import ExitCode
from rehydrator.layers.table import FORMATS
from rehydrator.manifest.schema import EditedDisk, Manifest, Rung, StoreIndex
from rehydrator.relocation.segments import Segment
from rehydrator.store.reader import Store
from tests.support.cli import fine

ROOT = Path(__file__).parent.parent
MANIFEST = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
STORE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
HACKING = (ROOT / "HACKING.md").read_text(encoding="utf-8")
PATHS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [path.read_text(encoding="utf-8") for path in PATHS]


def structs_in(kind: msgspec.inspect.Type, above: tuple[type, ...] = ()) -> Iterator[msgspec.inspect.StructType]:
    """Every struct that a type is made of; of one that is part of itself, as ``above`` tells, once."""
    match kind:
        case msgspec.inspect.StructType():
            yield kind
            if kind.cls not in above:
                for item in kind.fields:
                    yield from structs_in(item.type, (*above, kind.cls))
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
            yield from structs_in(kind.item_type, above)
        case msgspec.inspect.TupleType():
            for part in kind.item_types:
                yield from structs_in(part, above)
        case msgspec.inspect.DictType():
            yield from structs_in(kind.value_type, above)
        case msgspec.inspect.UnionType():
            for part in kind.types:
                yield from structs_in(part, above)


STRUCTS = {
    struct.cls.__name__: struct
    for root in (Manifest, StoreIndex, Segment)
    for struct in structs_in(msgspec.inspect.type_info(root))
}


def section(name: str) -> str:
    """The text under a struct's heading."""
    found = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", MANIFEST, re.MULTILINE | re.DOTALL)
    assert found, f"docs/manifest.md has no section {name}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_each_struct_has_a_section() -> None:
    assert sorted(re.findall(r"^### (\w+)$", MANIFEST, re.MULTILINE)) == sorted(STRUCTS)


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_are_described_in_order(name: str) -> None:
    described = re.findall(r"^\| `(\w+)` \|", section(name), re.MULTILINE)
    assert described == [item.encode_name for item in STRUCTS[name].fields]


@pytest.mark.parametrize("name", STRUCTS)
def test_form_is_described(name: str) -> None:
    struct = STRUCTS[name]
    if struct.tag is not None:
        assert f'Tagged `"{struct.tag_field}": "{struct.tag}"`' in section(name)
    assert struct.array_like == ("Written as an array." in section(name))


@pytest.mark.parametrize("name", STRUCTS)
def test_examples_decode(name: str) -> None:
    examples = blocks(section(name), "json")
    assert examples
    for example in examples:
        value = msgspec.json.decode(example, type=STRUCTS[name].cls)
        assert msgspec.json.decode(msgspec.json.encode(value)) == msgspec.json.decode(example)


def edits_of(struct: msgspec.inspect.StructType) -> Iterator[msgspec.inspect.StructType]:
    """The structs of the edits, in the order of the table in code."""
    edits = next(item for item in struct.fields if item.name == "edits")
    assert isinstance(edits.type, msgspec.inspect.ListType)
    yield from (item for item in structs_in(edits.type) if item.tag_field == "op")


def test_every_op_is_in_the_table() -> None:
    table = MANIFEST.partition("| op |")[2].partition("\n\n")[0]
    described = dict(re.findall(r"^\| `([\w.]+)` \| \[(\w+)\]", table, re.MULTILINE))
    assert described == {str(item.tag): item.cls.__name__ for item in edits_of(STRUCTS["EditedDisk"])}


def test_edits_are_told_in_the_order_of_the_table(real_store: Path) -> None:
    order = rows(MANIFEST, "op")
    seen = set()
    with Store(real_store) as store:
        for manifest in store.manifests("x86_64"):
            assert isinstance(manifest.body, EditedDisk)
            places = [(getattr(item, "partition", ""), str(item.__struct_config__.tag)) for item in manifest.body.edits]
            for partition in {name for name, _ in places if name}:
                ops = [order.index(op) for name, op in places if name == partition]
                assert ops == sorted(ops)
                seen.update(ops)
    assert len(seen) > 5


def commands(text: str) -> list[list[str]]:
    """The arguments of every rehydrator command in the shell blocks and in pipelines, inside the container too."""
    found = []
    for line in "".join(
        block for language in ("sh", "yaml", "groovy") for block in blocks(text, language)
    ).splitlines():
        command = re.sub(r"^podman run .* IMAGE ", "rehydrator ", line.strip())
        if command.startswith("rehydrator "):
            found.append(shlex.split(re.split(r"[|>]", command)[0])[1:])
    return found


@pytest.mark.parametrize("arguments", [item for text in DOCUMENTS for item in commands(text)], ids=" ".join)
def test_commands_exist(arguments: list[str]) -> None:
    command: click.Command = cli
    rest = list(arguments)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest.pop(0))
        assert found
        command = found
    parent = click.Context(cli, **cli.context_settings)  # the names of the help option come from there, and stay
    assert command.make_context("rehydrator", rest, parent=parent).args == []


def test_tasks_of_pipelines() -> None:
    """They are YAML, use parameters, results and workspaces that they declare, and run shell scripts that parse."""
    documents = [yaml.safe_load(block) for text in DOCUMENTS for block in blocks(text, "yaml")]
    found = [document for document in documents if "kind" in document]
    assert len(found) == 2
    for task in found:
        assert (task["apiVersion"], task["kind"]) == ("tekton.dev/v1", "Task")
        spec = task["spec"]
        declared = {
            f"{kind}.{item['name']}" for kind in ("params", "results", "workspaces") for item in spec.get(kind, [])
        }
        used = re.findall(r"\$\((\w+\.\w+)(?:\.path)?\)", json.dumps(spec))
        assert used
        assert set(used) <= declared
        assert {name for name in declared if name not in used} == set()
        for step in spec["steps"]:
            subprocess.run(["sh", "-n"], input=step["script"], text=True, check=True)
            assert "image" in {**spec.get("stepTemplate", {}), **step}


def test_every_command_is_shown() -> None:
    def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not isinstance(command, click.Group):
            yield path
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child
            yield from leaves(child, (*path, name))

    used = commands(README)
    missing = [path for path in leaves(cli, ()) if not any(tuple(item[: len(path)]) == path for item in used)]
    assert missing == []


def rows(text: str, heading: str) -> list[str]:
    """First cells of the table that begins with ``heading``."""
    table = text.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return [line.split("|")[1].strip(" `") for line in table.splitlines()[2:]]


def test_exit_codes() -> None:
    assert [int(code) for code in rows(README, "code")] == list(ExitCode)


def test_exit_codes_in_help() -> None:
    told = cli.help or ""
    assert [int(code) for code in re.findall(r"\b(\d+) [a-z]", told.partition("explain")[0])] == list(ExitCode)


@pytest.mark.parametrize("group", [[], ["build"]])
def test_lists_of_commands_are_whole_sentences(group: list[str]) -> None:
    """Also where a terminal has 80 columns."""
    listed = fine(*group, "--help", env={"COLUMNS": "80"}).text.partition("Commands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if not re.fullmatch(r"  [\w-]+  .*\w'?\.", line) or line.endswith("..")] == []


@pytest.mark.parametrize(("command", "default"), [("list", "all."), ("verify", "all."), ("info", "this machine's, or")])
def test_the_default_of_arch_is_told(command: str, default: str) -> None:
    told = " ".join(fine(command, "--help").text.split())
    assert f"or 'all'. Default: {default}" in told


def test_containers() -> None:
    names = [item.name for item in FORMATS]
    assert rows(README, "container") == names
    assert rows((ROOT / "docs" / "formats.md").read_text(encoding="utf-8"), "format") == names


def test_errors_are_told_as_they_are() -> None:
    """Each message of the document about trouble is in the code."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    told = [line.split(" | ")[0] for line in re.findall(r"^\| `.*", text, re.MULTILINE)]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rehydrator").rglob("*.py"))
    messages = [message for cell in told for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) > 20
    assert [message for message in messages if message not in code and message not in list(Rung)] == []


def test_places_in_the_code_are_there() -> None:
    """What the document about platforms names, file and name, exists."""
    text = (ROOT / "docs" / "adding-a-platform.md").read_text(encoding="utf-8")
    found = re.findall(r"\| (?:`(\w+)` in )?`((?:rehydrator|scripts)/[\w/]+\.py)`", text)
    assert len(found) == 5
    for name, path in found:
        assert name in (ROOT / path).read_text(encoding="utf-8")


def shown(name: str) -> list[str]:
    """The lines of the README between two marks."""
    found = README.partition(f"<!-- {name}:begin -->\n```\n")[2].partition("\n```\n")[0].splitlines()
    assert found
    return found


def golden(name: str) -> list[str]:
    return (ROOT / "tests" / "golden" / name).read_text(encoding="utf-8").splitlines()


def test_info_is_shown_as_it_is() -> None:
    left_out = re.compile("  (platform|shipped|rehydrates|compressed|rung|layer) ")
    assert shown("info") == [line for line in golden("info-openstack.txt") if not left_out.match(line)]


def test_explain_is_shown_as_it_is() -> None:
    *begin, _, _, last = shown("explain")
    whole = golden("explain.openstack.txt")
    assert whole[: len(begin)] == begin
    assert whole[-1] == last


@pytest.mark.parametrize("text", [README, MANIFEST], ids=["README", "manifest"])
def test_rungs(text: str) -> None:
    assert rows(text, "rung") == list(Rung)


def test_variables_exist() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rehydrator").rglob("*.py"))
    for name in rows(README, "variable"):
        assert f'"{name}"' in code


def test_figures_are_of_the_fixture(real_store: Path) -> None:
    """Sizes within a quarter: the versions of zstd differ, and so may the manifests a little."""
    figures = README.partition("<!-- figures:begin -->")[2].partition("<!-- figures:end -->")[0]
    found = re.findall(r"^(\S+) +([\d.]+) KiB +([\d.]+) KiB .* OK$", figures, re.MULTILINE)
    listed = {
        item["content_name"]: item
        for item in msgspec.json.decode(fine("list", "--json", "--store", real_store).out)["artifacts"]
    }
    assert {name for name, _, _ in found} == listed.keys(), "run scripts/demo --readme"
    for name, shipped, stored in found:
        assert float(shipped) == pytest.approx(listed[name]["shipped_size"] / 1024, abs=0.1), name
        assert float(stored) == pytest.approx(listed[name]["stored_size"] / 1024, rel=0.25), "run scripts/demo --readme"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.name))
def test_links_lead_somewhere(path: Path) -> None:
    document = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document):
        name, _, anchor = target.partition("#")
        text = (path.parent / name).read_text(encoding="utf-8") if name else document
        headings = {
            re.sub(r"[^\w-]", "", line.lower().replace(" ", "-")) for line in re.findall(r"^#+ (.*)$", text, re.M)
        }
        assert not anchor or anchor in headings, target


def shell_blocks() -> list[Any]:
    """The commands of docs/store.md."""
    return [pytest.param(block, id=block.strip().splitlines()[0][:40]) for block in blocks(STORE, "sh")]


@pytest.mark.oracle
@pytest.mark.parametrize("block", shell_blocks())
def test_verification_by_hand(block: str, real_store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    need("jq", "zstd")
    for entry in real_store.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert not lines or len(set(lines)) == 1


@pytest.mark.oracle
def test_verification_by_hand_notices(real_store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    """The commands fail on a store with one flipped byte."""
    need("jq", "zstd")
    for entry in real_store.rglob("*"):
        copy = tmp_path / entry.relative_to(real_store)
        if entry.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(entry.read_bytes())
    for damaged, block in zip(
        (next(tmp_path.glob("*/canonical.*")), next((tmp_path / "blobs").iterdir())),
        blocks(STORE, "sh")[:2],
        strict=True,
    ):
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode != 0
