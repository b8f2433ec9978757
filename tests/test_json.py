"""JSON of every command: documented field by field, versioned, and alone on standard output."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from rehydrator import results
from rehydrator.checks.report import CheckReport
from rehydrator.cli import cli
from rehydrator.explain.tree import Report
from rehydrator.report import StoreReport
from tests.support import stores
from tests.support.cli import fails, fine, run
from tests.support.releases import ReleaseMaker
from tests.test_docs import ROOT, structs_in

DOCUMENT = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
DOCUMENTS = [StoreReport, *(item for name, item in vars(results).items() if name.endswith("Result"))]
STRUCTS = {struct.cls.__name__: struct for root in DOCUMENTS for struct in structs_in(msgspec.inspect.type_info(root))}
SILENT = {"build clean", "completion", "print-stream-json"}


def test_each_struct_has_a_section() -> None:
    assert sorted(re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE)) == sorted(STRUCTS)


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_are_described_in_order(name: str) -> None:
    section = DOCUMENT.partition(f"### {name}\n")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [item.encode_name for item in STRUCTS[name].fields]


@pytest.mark.parametrize("kind", [*DOCUMENTS, Report, CheckReport])
def test_documents_begin_with_their_version(kind: type[msgspec.Struct]) -> None:
    assert msgspec.structs.fields(kind)[0].name == "schema"


def leaves(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child
        yield from leaves(child, f"{path} {name}".strip())


COMMANDS = dict(leaves(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_it(name: str) -> None:
    options = {word for parameter in COMMANDS[name].params for word in parameter.opts}
    assert ("--output" in options) != (name in SILENT)
    told = DOCUMENT.partition("| command |")[2].partition("\n\n")[0]
    assert (f"`{name}`" in told) != (name in SILENT)


@pytest.fixture
def places(small_store: Path, small_release: ReleaseMaker, tmp_path: Path) -> dict[str, Path]:
    return {"STORE": small_store, "RELEASE": small_release.root, "OUT": tmp_path / "out"}


RUNS: list[tuple[list[str], type[msgspec.Struct]]] = [
    (["list", "--store", "STORE"], StoreReport),
    (["info", "qemu", "--store", "STORE"], StoreReport),
    (["verify", "--store", "STORE"], results.VerificationResult),
    (["rehydrate", "OUT", "--all", "--store", "STORE"], results.RehydrationResult),
    (["rehydrate", "OUT.tar", "--all", "--store", "STORE"], results.RehydrationResult),
    (["build", "dehydrate", "RELEASE", "OUT", "--level", "1", "--no-compressed"], results.DehydrationResult),
    (["build", "attest", "STORE", "OUT"], results.DocumentsResult),
    (["push", "STORE", "oci:OUT"], results.ImageResult),
]


@pytest.mark.parametrize(("words", "kind"), RUNS, ids=lambda item: " ".join(item) if isinstance(item, list) else None)
def test_the_document_is_alone(places: dict[str, Path], words: list[str], kind: type[msgspec.Struct]) -> None:
    arguments = [re.sub("STORE|RELEASE|OUT", lambda found: str(places[found[0]]), word) for word in words]
    document = msgspec.json.decode(fine(*arguments, "--output", "json").out, type=kind, strict=True)
    assert document == msgspec.json.decode(msgspec.json.encode(document), type=kind)
    assert msgspec.structs.asdict(document)["schema"] == 1


def test_what_was_written_is_told(small_store: Path, tmp_path: Path) -> None:
    out = fine("rehydrate", tmp_path / "out", "--all", "--store", small_store, "--output", "json").out
    told = msgspec.json.decode(out, type=results.RehydrationResult)
    assert {item.path: (item.size, item.content_sha256) for item in told.files} == {
        str(path): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (tmp_path / "out").iterdir()
    }


def test_pulled_and_synthesized(real_store: Path, tmp_path: Path) -> None:
    fine("push", real_store, f"oci:{tmp_path}/layout")
    out = fine("pull", f"oci:{tmp_path}/layout", tmp_path / "copy", "--output", "json").out
    pulled = msgspec.json.decode(out, type=results.StoreResult)
    assert pulled.architectures == ["x86_64"]
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and path.name != "store.json"]
    assert pulled.size == sum(path.stat().st_size for path in files)
    out = fine("synthesize", "equinix", tmp_path, "--format", "qcow2", "--store", real_store, "--output", "json").out
    made = msgspec.json.decode(out, type=results.SynthesisResult)
    assert made.edits
    assert hashlib.sha256(Path(made.file.path).read_bytes()).hexdigest() == made.file.content_sha256


def test_names_that_are_not_utf_8(release_dir: Path, real_store: Path, tmp_path: Path) -> None:
    """The document is JSON all the same, and tells the name so that Python finds the file by it."""
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff \n"))
    out = fine("rehydrate", directory, "--disk", "qemu", "--store", real_store, "--output", "json").out
    (file,) = json.loads(out.decode())["files"]
    assert Path(file["path"]).stat().st_size == file["size"]
    (shipped,) = release_dir.glob("builds/*/x86_64/*qemu*.xz")
    image = shutil.copy(shipped, directory / os.fsdecode(b"\xfe-qemu.x86_64.qcow2.xz"))
    assert json.loads(fine("check", image, "--output", "json").out.decode())["file"] == Path(image).name
    assert json.loads(fine("explain", image, image, "--output", "json").out.decode())["b"]["file"] == Path(image).name


def test_a_problem_is_in_the_document(small_store: Path) -> None:
    stores.flip(small_store / "x86_64" / "canonical.raw.zst", 100)
    result = run("verify", "--store", small_store, "--output", "json")
    assert result.code == 1
    told = msgspec.json.decode(result.out, type=results.VerificationResult)
    assert not told.right
    assert any(item.problem for item in told.findings)


@pytest.mark.parametrize("arguments", [["rehydrate", "-", "--disk", "qemu"], ["synthesize", "equinix", "-"]])
def test_files_and_json_do_not_mix(real_store: Path, arguments: list[str]) -> None:
    fails(2, ["can't take files and JSON"], *arguments, "--store", real_store, "--output", "json")
