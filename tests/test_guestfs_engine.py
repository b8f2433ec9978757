"""The guestfs engine: the guard around its machine, settling, and the real appliance."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource
from rehydrator.engines.guestfs import kvm
from rehydrator.engines.guestfs.engine import SECTOR, Settlement, settle
from rehydrator.engines.guestfs.machine import DEVICE, Guard, Machine
from rehydrator.engines.guestfs.transfer import mounted_tree
from rehydrator.errors import ExitCode, RehydratorError, UnsupportedError
from tests.support.cli import PROGRAM, environment, fine, run

FAKE = Path(__file__).parent / "support" / "fake_guestfs"
REALLY_ACCESSIBLE = kvm.accessible
QUICK = Guard(silence=0.3, start=1.0, call=0.5)


class Fake:
    """The stand-in for libguestfs, set up for one test."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "machines"
        self.cache = directory / "cache"
        self.temporary = Path(tempfile.mkdtemp(prefix="fake-"))  # a short path, as sockets need it

    def environment(self, mode: str) -> dict[str, str]:
        return {
            "FAKE_GUESTFS": mode,
            "FAKE_GUESTFS_PIDS": str(self.log),
            "XDG_CACHE_HOME": str(self.cache),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(FAKE),
        }

    @property
    def machines(self) -> list[str]:
        """How machines were started, in order."""
        return [line.split()[1] for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def nothing_left(self) -> bool:
        """Tell that no machine runs and that no temporary file is there."""
        processes = [int(line.split()[0]) for line in self.log.read_text().splitlines()]
        running = [process for process in processes if _runs(process)]
        return not running and not list(self.temporary.iterdir())


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Fake]]:
    """Give a function that puts the stand-in in place, on a host that offers KVM."""
    found = Fake(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(found.temporary))
    monkeypatch.syspath_prepend(str(FAKE))
    monkeypatch.delitem(sys.modules, "guestfs", raising=False)
    monkeypatch.delenv("LIBGUESTFS_BACKEND_SETTINGS", raising=False)
    monkeypatch.setattr(kvm, "accessible", lambda: True)

    def set_up(mode: str) -> Fake:
        for name, value in found.environment(mode).items():
            if name != "PYTHONPATH":
                monkeypatch.setenv(name, value)
        return found

    yield set_up
    sys.modules.pop("guestfs", None)  # the next test may want the real one
    found.temporary.rmdir()


def test_a_machine_is_started_and_ended(fake: Callable[[str], Fake]) -> None:
    found = fake("fine")
    said: list[str] = []
    with Machine(1 << 20, said.append, guard=QUICK) as machine:
        assert machine.insert(BytesSource(b"x" * 512)).read(0, 512) == b"x" * 512
        assert not found.nothing_left()
    assert (found.machines, said) == (["kvm"], [])
    assert found.nothing_left()


def test_kvm_that_hangs_is_given_up_once(fake: Callable[[str], Fake]) -> None:
    found = fake("kvm-hangs")
    said: list[str] = []
    for _ in range(2):
        with Machine(1 << 20, said.append, guard=QUICK):
            pass
    assert found.machines == ["kvm", "tcg", "tcg"]
    assert said == ["KVM starts no machine on this host; emulation is used instead, which is slower"]
    assert found.nothing_left()


def test_the_user_may_ask_for_emulation(fake: Callable[[str], Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    found = fake("fine")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    with Machine(1 << 20, print, guard=QUICK):
        pass
    assert found.machines == ["tcg"]


def test_emulation_is_used_where_there_is_no_kvm(
    fake: Callable[[str], Fake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = fake("fine")
    monkeypatch.setattr(kvm, "accessible", REALLY_ACCESSIBLE)
    monkeypatch.setattr(kvm, "_DEVICE", tmp_path / "kvm")
    said: list[str] = []
    with Machine(1 << 20, said.append, guard=QUICK):
        pass
    assert (found.machines, said) == (["tcg"], [])
    assert not kvm.verdict_file().exists()  # nothing was learned of KVM


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("hangs", r"did not start within 1 s.*\n  launch: first\n  launch: second\n  the last words of the kernel"),
        ("exits", r"does not start: guestfs_launch failed\. .*the last words of the kernel"),
    ],
)
def test_what_never_starts_is_reported(mode: str, message: str, fake: Callable[[str], Fake]) -> None:
    found = fake(mode)
    with pytest.raises(UnsupportedError) as caught, Machine(1 << 20, print, guard=QUICK):
        pass
    assert re.search(message, str(caught.value), re.DOTALL)
    assert found.machines == ["kvm", "tcg"]
    assert not kvm.known_to_fail()  # something else may be wrong
    assert found.nothing_left()


def test_too_many_open_files_are_refused(fake: Callable[[str], Fake]) -> None:
    """libguestfs would end the process: "bit out of range 0 - FD_SETSIZE on fd_set"."""
    found = fake("fine")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2048:
        pytest.skip(f"this user may open {limits[1]} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2048), limits[1]))
    held = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while held[-1] < 1024:
            held.append(os.dup(held[0]))
        with pytest.raises(UnsupportedError, match="too many files are open"), Machine(1 << 20, print, guard=QUICK):
            pass
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found.machines == []
    assert not list(found.temporary.iterdir())


def test_a_call_that_never_ends_is_given_up(fake: Callable[[str], Fake]) -> None:
    found = fake("stuck")
    with pytest.raises(RehydratorError, match="did not answer"), Machine(1 << 20, print, guard=QUICK) as machine:
        machine.insert(BytesSource(bytes(512)))
    assert found.nothing_left()


def test_without_bindings_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "guestfs", None)
    with (
        pytest.raises(UnsupportedError, match=r"bindings of libguestfs are missing.*python3-guestfs"),
        Machine(1, print),
    ):
        pass


@pytest.mark.parametrize("command", ["rehydrate", "verify"])
def test_sectors_that_no_driver_makes_are_settled(
    command: str, fake: Callable[[str], Fake], real_store: Path, tmp_path: Path
) -> None:
    found = fake("fine")
    out = tmp_path / "out"
    words: dict[str, list[str | Path]] = {
        "rehydrate": ["rehydrate", out, "--disk", "openstack"],
        "verify": ["verify", "openstack"],
    }
    done = run(*words[command], "--store", real_store, "--engine", "guestfs", env=found.environment("fine"))
    assert done.code == 0, done.err
    assert re.search(r"0 of (\d+) sectors made by the driver, \1 settled", done.err)
    assert len(found.machines) == 1
    assert found.nothing_left()


def test_a_stream_that_never_ends_is_given_up(fake: Callable[[str], Fake]) -> None:
    found = fake("stream-stuck")
    with pytest.raises(RehydratorError, match="did not answer"), Machine(1 << 20, print, guard=QUICK) as machine:
        mounted_tree(machine, DEVICE)
    assert found.nothing_left()


def test_an_interrupt_ends_a_stream(fake: Callable[[str], Fake]) -> None:
    found = fake("stream-stuck")
    with Machine(1 << 20, print) as machine:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            mounted_tree(machine, DEVICE)
    assert found.nothing_left()


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("hangs", ["rehydrate", "OUT", "--disk", "qemu", "--engine", "guestfs"]),
        ("stuck", ["rehydrate", "OUT", "--disk", "qemu", "--engine", "guestfs"]),
        ("stuck", ["verify", "qemu", "--engine", "guestfs"]),
        ("stuck", ["verify", "qemu", "--mount"]),
    ],
)
def test_an_interrupt_leaves_nothing(
    mode: str, words: list[str], fake: Callable[[str], Fake], real_store: Path, tmp_path: Path
) -> None:
    found = fake(mode)
    out = tmp_path / "out"
    command = [str(out) if word == "OUT" else word for word in words]
    process = subprocess.Popen(
        [*PROGRAM, *command, "--store", str(real_store)],
        env=environment(found.environment(mode)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    waiting = Path(f"{found.log}.waiting")
    end = time.monotonic() + 120
    while not waiting.exists() and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert found.nothing_left()
    assert not out.exists() or not list(out.iterdir())


def _children(process: int) -> list[int]:
    """The processes that ``process`` started, and those that these did."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    pairs = [[int(word) for word in line.split()] for line in listed.splitlines()]
    found = [process]
    for parent in found:
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found[1:]


def _emulator(process: int, used: float) -> int | None:
    """Return the emulator below a process once it has used so many seconds of processor time."""
    for child in _children(process):
        try:
            name = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            times = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"qemu-system" in name[0] and b"-nodefaults" in b" ".join(name):
            ticks = int(times[11]) + int(times[12])
            return child if ticks / os.sysconf("SC_CLK_TCK") >= used and b"-append" in name else None
    return None


@pytest.mark.builder
@pytest.mark.parametrize("used", [0, 0.5])
def test_an_interrupt_while_a_real_machine_starts_leaves_nothing(
    used: float, real_store: Path, tmp_path: Path, appliance_environment: dict[str, str]
) -> None:
    """The emulator has just been started, or its kernel is on its way."""
    temporary = Path(tempfile.mkdtemp(prefix="real-"))  # a short path, as sockets need it
    cache = os.environ.get("LIBGUESTFS_CACHEDIR") or os.environ.get("TMPDIR") or "/var/tmp"
    variables = {"TMPDIR": str(temporary), "XDG_RUNTIME_DIR": str(temporary), "LIBGUESTFS_CACHEDIR": cache}
    process = subprocess.Popen(
        [
            *PROGRAM,
            "rehydrate",
            str(tmp_path / "out"),
            "--disk",
            "qemu",
            "--engine",
            "guestfs",
            "--store",
            str(real_store),
        ],
        env=environment(appliance_environment | variables | {"LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    emulator = None
    end = time.monotonic() + 300
    while (emulator := _emulator(process.pid, used)) is None and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert emulator is not None
    others = _children(process.pid)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert [child for child in {emulator, *others} if _runs(child)] == []
    assert list(temporary.iterdir()) == []
    temporary.rmdir()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.builder
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SUPERMIN_KERNEL": "/none", "SUPERMIN_MODULES": "/none"}, "failed to find a suitable kernel"),
        ({"TMPDIR": "{full}", "LIBGUESTFS_CACHEDIR": "{full}"}, r"No space left on device|Wrote only \d+ of \d+ bytes"),
    ],
)
def test_what_the_appliance_lacks_is_told_and_nothing_stays(
    variables: dict[str, str],
    message: str,
    real_store: Path,
    appliance_environment: dict[str, str],
    need: Callable[..., None],
    tmp_path: Path,
) -> None:
    need("unshare", "mount", root=True)
    full = tmp_path / "full"
    places = {"TMPDIR": tmp_path / "tmp", "LIBGUESTFS_CACHEDIR": tmp_path / "cache"}
    for directory in (full, *places.values()):
        directory.mkdir()
    env = {**appliance_environment, **{name: str(path) for name, path in places.items()}}
    env |= {name: value.format(full=full) for name, value in variables.items()}
    env["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    # A file system of 1 MiB that only this process sees; what is left in it is shown
    script = 'mount -t tmpfs -o size=1m none "$0" && { "$@"; code=$?; find "$0" -name "rehydrator-*"; exit $code; }'
    command = [*PROGRAM, "rehydrate", str(tmp_path / "out"), "--disk", "qemu", "--engine", "guestfs", "--store"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(full), *command, str(real_store)],
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.UNSUPPORTED, done.stderr
    assert re.search(rf"rehydrator: error: the appliance .*({message})", done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(places["TMPDIR"].iterdir())
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def _disk(*sectors: int) -> bytes:
    return b"".join(bytes([value]) * SECTOR for value in sectors)


@pytest.mark.parametrize(
    ("driven", "wanted", "account"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), Settlement()),
        ((9, 2, 3, 4), (9, 2, 3, 4), Settlement(made=1)),
        ((9, 2, 3, 4), (8, 2, 3, 4), Settlement(settled=1)),
        ((9, 2, 3, 4), (1, 2, 3, 4), Settlement(restored=1)),
        ((9, 7, 3, 5), (9, 2, 6, 4), Settlement(made=1, settled=1, restored=2)),
    ],
)
def test_each_touched_or_recorded_sector_is_settled(
    driven: tuple[int, ...], wanted: tuple[int, ...], account: Settlement
) -> None:
    before = _disk(1, 2, 3, 4)
    disks = []
    for sectors in (driven, wanted):
        overlay = Overlay(BytesSource(before))
        for number, value in enumerate(sectors):
            if value != before[number * SECTOR]:
                overlay.write(number * SECTOR, bytes([value]) * SECTOR)
        disks.append(overlay)
    result, found = settle(BytesSource(before), *disks)
    assert result.read(0, len(before)) == _disk(*wanted)
    assert found == account


@pytest.mark.builder
def test_a_real_driver_and_the_direct_engine_give_the_same(
    real_store: Path, tmp_path: Path, appliance_environment: dict[str, str]
) -> None:
    engines: dict[str, dict[str, str]] = {"direct": {}, "guestfs": appliance_environment}
    said = {}
    for engine, env in engines.items():
        done = fine("rehydrate", tmp_path / engine, "--all", "--store", real_store, "--engine", engine, env=env)
        said[engine] = done.err
    names, others = ({path.name for path in (tmp_path / engine).iterdir()} for engine in engines)
    assert names == others
    for name in names:
        assert (tmp_path / "direct" / name).read_bytes() == (tmp_path / "guestfs" / name).read_bytes()
    accounts = re.findall(r"(\d+) of (\d+) sectors made by the driver", said["guestfs"])
    assert len(accounts) == len(names) - 1  # metal's disk has no edits
    assert sum(int(made) for made, _all in accounts) > 0
