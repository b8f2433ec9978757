"""Runs that are ended from outside: nothing under a final name, and the next run cleans up."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import PROGRAM, environment, fine, hidden, leftovers, run
from tests.support.disks import MIB, random_sparse, sibling, with_gpt
from tests.support.releases import ReleaseMaker

_WAIT = 120


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that takes its time: 48 MiB of poorly compressible disk."""
    maker = ReleaseMaker(tmp_path_factory.mktemp("large") / "release")
    metal = with_gpt((random_sparse(1, 2 * MIB, 1.0, 64) + b"text and more text " * 60_000)[: 3 * MIB] * 16)
    maker.add("metal", "raw.gz", metal)
    maker.add("aws", "raw.gz", sibling(metal, 2))
    maker.add("gcp", "raw", sibling(metal, 3, 200 * MIB))
    return maker.finish()


@pytest.fixture(scope="module")
def large_store(large: Path) -> Path:
    store = large.parent / "store"
    fine("build", "dehydrate", large, store, "--level", "1")
    return store


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the program; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str | Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*PROGRAM, *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, env=environment()
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until the run has come to a certain point."""
    end = time.monotonic() + _WAIT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def size_of_hidden(directory: Path) -> int:
    """Bytes in the temporary files below ``directory``; what vanishes meanwhile counts as nothing."""
    total = 0
    for found in leftovers(directory):
        for path in (found, *found.rglob("*")):
            try:
                total += path.stat().st_blocks * 512 if path.is_file() else 0
            except OSError:
                continue
    return total


# How much has been written when the signal comes: at once, in the middle, late
MOMENTS = [0, 3 * MIB, 40 * MIB]
SIGNALS = [(signal.SIGINT, {130}), (signal.SIGTERM, {143}), (signal.SIGHUP, {129})]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("number", "codes"), SIGNALS)
def test_interrupted_dehydration(
    large: Path,
    tmp_path: Path,
    spawn: Callable[..., subprocess.Popen[bytes]],
    number: int,
    codes: set[int],
    moment: int,
) -> None:
    process = spawn("build", "dehydrate", large, tmp_path / "store", "--level", "1", "--progress", "none")
    wait_for(lambda: leftovers(tmp_path) and size_of_hidden(tmp_path) >= moment, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=_WAIT)
    assert process.returncode in codes, err
    assert b"Traceback" not in err
    assert err.count(b"rehydrator: ") == 1, err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", [0, 3 * MIB, 20 * MIB])
@pytest.mark.parametrize(("number", "codes"), SIGNALS)
def test_interrupted_rehydration(
    large_store: Path,
    tmp_path: Path,
    spawn: Callable[..., subprocess.Popen[bytes]],
    number: int,
    codes: set[int],
    moment: int,
) -> None:
    out = tmp_path / "out"
    process = spawn("rehydrate", out, "--disk", "gcp", "--store", large_store, "--progress", "none")
    wait_for(lambda: leftovers(out) and size_of_hidden(out) >= moment, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=_WAIT)
    assert process.returncode in codes, err
    assert b"Traceback" not in err
    assert err.count(b"rehydrator: ") == 1, err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_verification_ends_soon(
    large_store: Path, spawn: Callable[..., subprocess.Popen[bytes]], number: int
) -> None:
    process = spawn("verify", "--store", large_store, "--progress", "json")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=_WAIT)
    assert process.returncode == 128 + number, (out, err)
    assert b"Traceback" not in err
    assert b'"finished"' not in err.replace(b'"ok": false', b"").split(b"rehydrator:")[0] or b'"ok": true' not in err


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_dehydration(
    large: Path, tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]], moment: int
) -> None:
    """Nothing can be cleaned up then; the next run for the same store does."""
    store = tmp_path / "store"
    process = spawn("build", "dehydrate", large, store, "--level", "1", "--progress", "none")
    wait_for(lambda: leftovers(tmp_path) and size_of_hidden(tmp_path) >= moment, process)
    process.kill()
    process.wait(_WAIT)
    assert not store.exists()
    assert len(leftovers(tmp_path)) == 1
    run("build", "dehydrate", tmp_path / "no release", store)
    fine("build", "dehydrate", large, store, "--level", "1", "--progress", "none")
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    assert hidden(store) == []


def test_a_run_that_lives_is_left_alone(
    large: Path, tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Two runs for one store: one of them publishes, the other says so, neither harms the other's files."""
    store = tmp_path / "store"
    arguments = ("build", "dehydrate", large, store, "--level", "1", "--progress", "none")
    first = spawn(*arguments)
    wait_for(lambda: leftovers(tmp_path) and size_of_hidden(tmp_path) > MIB, first)
    second = spawn(*arguments)
    errors = [process.communicate(timeout=_WAIT)[1] for process in (first, second)]
    assert sorted(process.returncode for process in (first, second)) == [0, 2], errors
    assert b"exists already" in b"".join(errors)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    fine("verify", "--store", store, "--progress", "none")


@pytest.mark.parametrize("moment", [0, 3 * MIB, 20 * MIB, 40 * MIB])
def test_killed_rehydration(
    large_store: Path, tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]], moment: int
) -> None:
    out = tmp_path / "out"
    process = spawn("rehydrate", out, "--disk", "gcp", "--store", large_store, "--progress", "none")
    wait_for(lambda: leftovers(out) and size_of_hidden(out) >= moment, process)
    process.kill()
    process.wait(_WAIT)
    assert [path for path in out.iterdir() if not path.name.startswith(".")] == []
    assert len(leftovers(out)) == 1
    fine("rehydrate", out, "--disk", "gcp", "--store", large_store, "--progress", "none")
    assert hidden(out) == []


def test_two_rehydrations_of_one_file(
    large_store: Path, tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Neither takes the other's temporary file for one that a killed run left."""
    out = tmp_path / "out"
    arguments = ("rehydrate", out, "--disk", "gcp", "--store", large_store, "--progress", "none")
    first = spawn(*arguments)
    wait_for(lambda: leftovers(out), first)
    second = spawn(*arguments)
    for process in (first, second):
        assert process.communicate(timeout=_WAIT)[1] == b""
        assert process.returncode == 0
    assert hidden(out) == []


@pytest.mark.parametrize("arguments", [["--disk", "gcp"], ["--all"]])
@pytest.mark.parametrize("after", [0, 1000, 5 * MIB])
def test_standard_output_closed_early(
    large_store: Path, spawn: Callable[..., subprocess.Popen[bytes]], arguments: list[str], after: int
) -> None:
    process = spawn("rehydrate", "-", *arguments, "--store", large_store, "--progress", "none")
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(after)) == after
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(_WAIT) == 2


@pytest.mark.parametrize("command", ["list", "info", "print-stream-json"])
def test_listings_to_a_closed_pipe(real_store: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.run(
            [*PROGRAM, command, "--store", str(real_store)],
            stdout=writer, stderr=subprocess.PIPE, check=False, env=environment(),
        )  # fmt: skip
    finally:
        os.close(writer)
    assert process.stderr == b""
    assert process.returncode != 0


def test_no_standard_output_at_all(small_store: Path) -> None:
    command = f'exec "$0" -m rehydrator rehydrate - --disk aws --store "{small_store}" --progress none >&-'
    process = subprocess.run(["sh", "-c", command, PROGRAM[0]], stderr=subprocess.PIPE, check=False, env=environment())
    assert process.returncode == 2
    assert process.stderr.count(b"\n") <= 1
    assert b"internal error" not in process.stderr


@pytest.mark.parametrize("arguments", [["--disk", "aws"], ["--all"]])
def test_a_terminal_is_refused(small_store: Path, arguments: list[str]) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.run(
            [*PROGRAM, "rehydrate", "-", *arguments, "--store", str(small_store)],
            stdout=theirs, stderr=subprocess.PIPE, check=False, env=environment(),
        )  # fmt: skip
    finally:
        os.close(theirs)
        os.close(ours)
    assert process.returncode == 2
    assert b"refusing to write an image to a terminal" in process.stderr


def test_a_terminal_shows_a_bar(small_store: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*PROGRAM, "rehydrate", str(tmp_path), "--all", "--store", str(small_store)]
    process = subprocess.run(command, stderr=theirs, check=True, env=environment())
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other side is closed and everything was read
            break
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[K" in shown
    assert shown.count(b"sha256 ok") == 4


@pytest.mark.parametrize("what", ["file", "below a file"])
def test_impossible_destinations(small_store: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    dest = tmp_path / "file" if what == "file" else tmp_path / "file" / "out"
    result = run("rehydrate", dest, "--disk", "aws", "--store", small_store)
    assert result.code == 2
    assert len(result.complaints) == 1
    assert str(dest) in result.complaints[0]
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_destination_that_cannot_be_written(small_store: Path) -> None:
    """Root may write nearly everywhere, but nobody can into /proc."""
    result = run("rehydrate", "/proc/self", "--disk", "aws", "--store", small_store)
    assert result.code == 2
    assert "cannot be written" in result.complaints[0]
    assert len(result.complaints) == 1
