"""Variables that programs are expected to heed: SOURCE_DATE_EPOCH, TMPDIR, NO_COLOR."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehydrator.errors import UsageError
from rehydrator.oci.layout import LayoutWriter
from rehydrator.rehydrate import source_date_epoch
from tests.support.cli import PROGRAM, environment, fine, run
from tests.support.images import put_base
from tests.support.openpgp import Signatory

ROOT = Path(__file__).parent.parent
# Runs the program and writes the path of each file that it opens for writing or makes to a descriptor.
_WATCHED = """
import os, sys
out = int(sys.argv.pop(1))
def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR) and isinstance(path, (str, bytes)):
            os.write(out, os.path.abspath(os.fsdecode(path)).encode() + b"\\n")
    elif event in ("os.mkdir", "tempfile.mkdtemp"):
        os.write(out, os.path.abspath(os.fsdecode(arguments[0])).encode() + b"\\n")
sys.addaudithook(hook)
from rehydrator.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def places(real_store: Path, release_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands for the words in capital letters."""
    root = tmp_path_factory.mktemp("environment")
    with LayoutWriter(root / "base") as writer:
        writer.tag(put_base(writer), "latest")
    [shipped] = release_dir.glob("builds/*/x86_64/*-openstack.*.xz")
    signatory = Signatory(root, "release")
    yield {"STORE": str(real_store), "RELEASE": str(release_dir), "BASE": f"oci:{root}/base", "SHIPPED": str(shipped),
           "KEY": str(signatory.public)}  # fmt: skip
    signatory.close()


def filled(words: str, places: dict[str, str], out: Path) -> list[str]:
    """The arguments of a command."""
    known = {**places, "OUT": str(out)}
    return re.sub("|".join(known), lambda found: known[found[0]], words).split()


def tree(root: Path) -> dict[str, bytes]:
    if root.is_file():
        return {"": root.read_bytes()}
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


DATED = [
    "rehydrate OUT.tar --disk openstack --disk qemu --store STORE",
    "rehydrate OUT.tar.gz --disk qemu --store STORE",
    "synthesize equinix OUT --format ova --store STORE",
    "build attest STORE OUT",
    "build image STORE oci:OUT --base BASE",
    "push STORE oci:OUT",
]


@pytest.mark.parametrize("words", DATED)
def test_the_date_is_that_of_the_epoch(words: str, places: dict[str, str], tmp_path: Path) -> None:
    made = []
    for number, epoch in enumerate(("86400", "86400", "1700000000")):
        target = tmp_path / str(number)
        target.mkdir()
        fine(*filled(words, places, target / "out"), env={"SOURCE_DATE_EPOCH": epoch})
        made.append(tree(target))
    assert made[0] == made[1]
    assert made[0] != made[2]


@pytest.mark.parametrize("epoch", ["", "now", "-1", "1.5", "9" * 19])
def test_what_is_no_number_is_no_epoch(epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(UsageError, match="not a number of seconds"):
        source_date_epoch()


@pytest.mark.parametrize("words", DATED)
def test_an_epoch_that_is_none_is_refused(words: str, places: dict[str, str], tmp_path: Path) -> None:
    result = run(*filled(words, places, tmp_path / "out"), env={"SOURCE_DATE_EPOCH": "now"})
    assert result.code == 2
    assert "SOURCE_DATE_EPOCH is not a number of seconds" in result.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# commands, and whether they need a temporary file
TEMPORARY: list[tuple[str, bool]] = [
    ("list --store STORE", False),
    ("rehydrate OUT --disk openstack --disk qemu --store STORE", False),
    ("rehydrate OUT --disk qemu --compress zstd --store STORE", False),
    ("verify qemu --store STORE", False),
    ("verify qemu --store STORE --key KEY", True),
    ("synthesize equinix OUT --format vmdk --store STORE", True),
    ("synthesize equinix OUT --format ova --store STORE", True),
    ("check SHIPPED", True),
    ("explain --against STORE SHIPPED", True),
    ("build dehydrate RELEASE OUT --no-compressed --level 1", False),
    ("push STORE oci:OUT", False),
]


@pytest.mark.parametrize(("words", "needed"), TEMPORARY)
def test_files_go_below_the_temporary_directory(
    words: str, needed: bool, places: dict[str, str], tmp_path: Path
) -> None:
    temporary, out, log = tmp_path / "temporary", tmp_path / "results" / "out", tmp_path / "log"
    temporary.mkdir()
    out.parent.mkdir()
    with log.open("wb") as stream:
        subprocess.run(
            [sys.executable, "-c", _WATCHED, str(stream.fileno()), *filled(words, places, out)],
            env=environment({"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}),
            cwd=out.parent,  # paths that begin at an open directory are told as if they began here
            pass_fds=[stream.fileno()], capture_output=True, check=False, timeout=300,
        )  # fmt: skip
    written = {Path(line) for line in log.read_text().splitlines()} - {Path(os.devnull)}
    below = {path for path in written if path.is_relative_to(temporary)}
    assert {path for path in written - below if not path.is_relative_to(out.parent)} == set()
    assert bool(below) == needed
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("words", [words for words, needed in TEMPORARY if needed and "KEY" not in words])
def test_no_temporary_directory_is_told(words: str, places: dict[str, str], tmp_path: Path) -> None:
    """But for GnuPG's own directory, for which Python takes the next usual place."""
    gone = tmp_path / "gone"
    result = run(*filled(words, places, tmp_path / "out"), env={"TMPDIR": str(gone)})
    assert result.code == 2
    assert len(result.complaints) == 1
    assert str(gone) in result.complaints[0]
    assert "TMPDIR" in result.complaints[0]


@pytest.mark.parametrize("value", [None, "1"])
@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "list --store STORE",
        "explain --against STORE SHIPPED -p",
        "rehydrate OUT --disk openstack --disk qemu --store STORE",
    ],
)
def test_nothing_is_coloured(value: str | None, words: str, places: dict[str, str], tmp_path: Path) -> None:
    """With NO_COLOR or without, on a terminal."""
    variables = environment({"TERM": "xterm-256color"} | ({} if value is None else {"NO_COLOR": value}))
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *filled(words, places, tmp_path / "out")], stdout=terminal, stderr=terminal, env=variables
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 1 << 16):
            shown += piece
    except OSError:  # the terminal was closed by its last user
        pass
    os.close(controller)
    assert process.wait(120) in {0, 1, 3}
    assert shown
    assert re.findall(rb"\x1b\[[0-9;]*m", shown) == []
