"""What docs/security.md says: races in the destination, names that lead elsewhere, input made to exhaust."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.disk.sink import FileSink
from rehydrator.errors import CorruptError, InputError, OutputError, RehydratorError
from rehydrator.manifest.schema import Manifest, StoreIndex
from rehydrator.manifest.text import decode
from rehydrator.release.inputs import Selection, read_inputs
from rehydrator.release.workdir import BuildState, Wish, start
from tests.support.cli import fine, hidden

ROOT = Path(__file__).parent.parent
OUTSIDE = b"not to be touched"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.write_bytes(OUTSIDE)
    return path


def test_a_link_in_place_of_a_file_is_replaced(small_store: Path, outside: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    names = [
        item["content_name"] for item in json.loads(fine("list", "--json", "--store", small_store).out)["artifacts"]
    ]
    for name in names:
        (out / name).symlink_to(outside)
    fine("rehydrate", out, "--all", "--store", small_store, "--progress", "none")
    assert outside.read_bytes() == OUTSIDE
    assert not [name for name in names if (out / name).is_symlink()]


Swap = Callable[[Path, Path], None]


def link(temporary: Path, outside: Path) -> None:
    temporary.unlink()
    temporary.symlink_to(outside)


def other_file(temporary: Path, _: Path) -> None:
    temporary.unlink()
    temporary.write_bytes(b"another's")


def hard_link(temporary: Path, outside: Path) -> None:
    temporary.unlink()
    temporary.hardlink_to(outside)


@pytest.mark.parametrize("swap", [link, other_file, hard_link])
def test_another_file_in_place_of_the_temporary_one(swap: Swap, outside: Path, tmp_path: Path) -> None:
    """What was not written and compared gets no name."""
    out = tmp_path / "out"
    out.mkdir()
    with FileSink(out / "disk.raw") as sink:
        sink.write(b"right")
        (temporary,) = out.iterdir()
        swap(temporary, outside)
        with pytest.raises(OutputError, match="another file in its place"):
            sink.commit()
    assert list(out.iterdir()) == []
    assert outside.read_bytes() == OUTSIDE


def test_a_destination_that_becomes_a_link(tmp_path: Path) -> None:
    """The file goes to the directory that was meant when it was begun."""
    out, moved, elsewhere = tmp_path / "out", tmp_path / "moved", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    with FileSink(out / "disk.raw") as sink:
        sink.write(b"right")
        out.rename(moved)
        out.symlink_to(elsewhere)
        sink.commit()
    assert (moved / "disk.raw").read_bytes() == b"right"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("trap", ["link", "pipe", "directory"])
def test_traps_among_abandoned_files(trap: str, outside: Path, tmp_path: Path) -> None:
    """Only files that killed runs left are removed, and nothing is followed or waited for."""
    old = tmp_path / ".disk.raw.01234567.part"
    match trap:
        case "link":
            old.symlink_to(outside)
        case "pipe":
            os.mkfifo(old)
        case _:
            old.mkdir()
    with FileSink(tmp_path / "disk.raw") as sink:
        sink.write(b"right")
        sink.commit()
    assert (tmp_path / "disk.raw").read_bytes() == b"right"
    assert outside.read_bytes() == OUTSIDE


def test_a_race_for_the_final_name(small_store: Path, outside: Path, tmp_path: Path) -> None:
    """Somebody makes the final name a link again and again while files are written."""
    out = tmp_path / "out"
    out.mkdir()
    target = out / "racing.raw"
    over = threading.Event()

    def race() -> None:
        number = 0
        while not over.is_set():
            number += 1
            with contextlib.suppress(OSError):
                trap = out / f"trap{number}"
                trap.symlink_to(outside)
                trap.replace(target)

    racer = threading.Thread(target=race)
    racer.start()
    try:
        for _ in range(300):
            with FileSink(target) as sink:
                sink.write(b"right" * 100)
                sink.commit()
    finally:
        over.set()
        racer.join()
    assert outside.read_bytes() == OUTSIDE
    assert hidden(out) == []


DEEP = {
    "lists": b"[" * 200_000,
    "objects": b'{"a":' * 200_000,
    "an unknown field": b'{"version": "1.0", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
}


@pytest.mark.parametrize("case", DEEP)
@pytest.mark.parametrize("kind", [StoreIndex, Manifest, BuildState])
def test_json_that_is_nested_too_deeply(kind: type[StoreIndex | Manifest | BuildState], case: str) -> None:
    with pytest.raises(CorruptError, match="is not a valid"):
        decode(DEEP[case], kind, Path("x.json"))


@pytest.mark.parametrize("case", DEEP)
def test_release_metadata_that_is_nested_too_deeply(case: str, tmp_path: Path) -> None:
    (tmp_path / "stream.json").write_bytes(DEEP[case])
    with pytest.raises(RehydratorError):
        read_inputs([tmp_path], Selection())


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "a\nb", "../x", ".hidden", ""])
def test_a_stream_whose_name_commands_the_terminal(name: str, tmp_path: Path) -> None:
    file = {"location": "https://x/metal.raw.xz", "sha256": "0" * 64}
    artifacts = {"metal": {"release": "44", "formats": {"raw.xz": {"disk": file}}}}
    document = json.dumps({"stream": name, "architectures": {"x86_64": {"artifacts": artifacts}}}).encode()
    with pytest.raises(InputError, match="not a plain name"):
        start(tmp_path / "work", document, "x", Wish())


def test_cleaning_follows_no_link(outside: Path, tmp_path: Path) -> None:
    """A work directory in which somebody put a link where the downloads are."""
    work = tmp_path / "work"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    file = {"location": "https://x/metal.raw.xz", "sha256": "0" * 64}
    artifacts = {"metal": {"release": "44", "formats": {"raw.xz": {"disk": file}}}}
    document = json.dumps({"stream": "testing", "architectures": {"x86_64": {"artifacts": artifacts}}}).encode()
    made = start(work, document, "x", Wish())
    (work / "builds").symlink_to(precious)
    with pytest.raises(OutputError, match="cannot be removed"):
        made.remove()
    assert (precious / "file").exists()


def test_every_answer_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", text)
    assert len(named) > 20
    for module, name in named:
        assert f"def {name}(" in (ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8"), f"{module}::{name}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "|---"))]
    assert [row for row in rows if "`test_" not in row] == []
