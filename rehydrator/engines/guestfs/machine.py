"""One virtual machine of libguestfs, started under guard and used for many disks.

Its only drive is an :class:`~rehydrator.engines.guestfs.export.Export`, whose content may be exchanged while nothing is
mounted: one start serves a whole release.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from rehydrator.disk.overlay import Overlay
from rehydrator.disk.scratch import ScratchDirectory
from rehydrator.disk.source import Source
from rehydrator.engines.guestfs import kvm
from rehydrator.engines.guestfs.bindings import Bindings, Handle, load
from rehydrator.engines.guestfs.caller import Caller, StalledError
from rehydrator.engines.guestfs.export import Export
from rehydrator.errors import RehydratorError, UnsupportedError
from rehydrator.progress import Cancelled

T = TypeVar("T")
DEVICE = "/dev/sda"  # as libguestfs calls it
_LABEL = "rehydrator"
# As programs in the appliance must call it: its kernel looks for its drives at once, so that /dev/sda may be the
# appliance's own root. libguestfs translates the names that it is given.
DEVICE_INSIDE = f"/dev/disk/guestfs/{_LABEL}"
BACKEND_SETTINGS = "LIBGUESTFS_BACKEND_SETTINGS"
_CONSOLE_LINES = 12
_CLOSING = 20.0  # seconds for libguestfs to clean up behind a machine that has ended
_ALL_CACHES = 3
_MAX_ROOM = 64
_SHORT_ROOM = "/tmp"
_FD_SETSIZE = 1024  # of select(2), by which libguestfs starts programs; beyond it the C library ends the process
_FD_ROOM = 32  # descriptors that a start takes at once, and some more


class Guard(msgspec.Struct, frozen=True):
    """How long a machine may take, in seconds.

    ``silence``: nothing new on its console while it starts with KVM. ``start``: the whole start, also in emulation.
    ``call``: one call into the running machine.
    """

    silence: float = 20.0
    start: float = 300.0
    call: float = 300.0


class _Console:
    """The last that the appliance said, and when; events of kind ``lines`` are whole lines, without their end."""

    def __init__(self, lines: int = 0) -> None:
        self._lines = lines
        self._text: deque[str] = deque(maxlen=4096)
        self.heard = time.monotonic()

    def hear(self, event: int, _handle: int, text: bytes | str | None, _numbers: Sequence[int]) -> None:
        """Take in what libguestfs passes on."""
        self.heard = time.monotonic()
        if text:
            self._text.append(text.decode(errors="replace") if isinstance(text, bytes) else text)
            if event & self._lines:
                self._text.append("\n")

    def lines(self) -> list[str]:
        """Return the last lines."""
        lines = "".join(self._text).replace("\r", "").splitlines()
        return [line for line in lines if line.strip()][-_CONSOLE_LINES:]


class Machine:
    """A running machine with a drive of ``size`` bytes; use it as a context manager.

    ``appliance`` is the directory of a fixed appliance, None for what libguestfs makes itself. ``say`` is told what a
    person should know. ``check`` is called while a call runs; what it raises ends the wait, and the machine.
    """

    def __init__(
        self,
        size: int,
        say: Callable[[str], None],
        *,
        appliance: Path | None = None,
        guard: Guard | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._say = say
        self._check = check
        self._appliance = appliance
        self._guard = guard or Guard()
        self._directory = ScratchDirectory("rehydrator-vm-", _socket_room())
        self._export = Export(size, self._directory.path / "disk")
        self._caller = Caller()
        self._handle: Handle | None = None
        self._console = _Console()

    def __enter__(self) -> Self:
        try:
            bindings = load()
            _check_descriptors()
            self._export.start()
            self._launch(bindings)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None and self._handle is not None:
            try:
                self.call(lambda handle: handle.shutdown())
            finally:
                self._close()
        else:
            self._close()

    def _launch(self, bindings: Bindings) -> None:
        tried_kvm = self._may_use_kvm()
        if tried_kvm:
            try:
                self._start(bindings, tcg=False)
            except (StalledError, RuntimeError):
                self._drop()
            else:
                kvm.remember(works=True)
                return
        try:
            self._start(bindings, tcg=True)
        except StalledError:
            raise self._failed(f"the appliance did not start within {self._guard.start:.0f} s") from None
        except RuntimeError as error:
            raise self._failed(f"the appliance does not start: {_first_line(error)}") from error
        if tried_kvm:  # and only now it is known that nothing else was wrong
            kvm.remember(works=False)
            self._say("KVM starts no machine on this host; emulation is used instead, which is slower")

    def _may_use_kvm(self) -> bool:
        return "force_tcg" not in os.environ.get(BACKEND_SETTINGS, "") and kvm.accessible() and not kvm.known_to_fail()

    def _start(self, bindings: Bindings, *, tcg: bool) -> None:
        handle = bindings.GuestFS(python_return_dict=True)
        self._handle = handle
        self._console = _Console(lines=bindings.EVENT_LIBRARY)
        handle.set_backend("direct")
        if tcg:
            handle.set_backend_setting("force_tcg", "1")
        if self._appliance is not None:
            handle.set_path(str(self._appliance))
        handle.set_verbose(1)
        handle.set_event_callback(self._console.hear, bindings.EVENT_APPLIANCE | bindings.EVENT_LIBRARY)
        server = [f"unix:{self._export.path}"]
        handle.add_drive_opts("/", readonly=0, format="raw", protocol="nbd", server=server, label=_LABEL)

        def alive(seconds: float) -> bool:
            silent = time.monotonic() - self._console.heard
            return seconds < self._guard.start and (tcg or silent < self._guard.silence)

        def launch() -> None:
            with _temporary_files_in(self._directory.path):  # to its end, also where nobody waits for it any more
                handle.launch()

        self._caller.run(launch, alive)

    def call(self, function: Callable[[Handle], T], heard: Callable[[], float] = lambda: 0.0) -> T:
        """Call into the machine. Raises RehydratorError for what libguestfs refuses, and when it takes too long.

        A call that gives its result bit by bit may take longer: ``heard`` tells when the last came (monotonic seconds).
        """
        handle = self._handle
        assert handle is not None

        def alive(seconds: float) -> bool:
            self._check()
            return min(seconds, time.monotonic() - heard()) < self._guard.call

        try:
            return self._caller.run(lambda: function(handle), alive)
        except StalledError:
            self._kill()  # the call still runs, and may hold what its caller waits for
            raise self._failed(f"the appliance did not answer within {self._guard.call:.0f} s") from None
        except (KeyboardInterrupt, Cancelled):
            self._kill()
            raise
        except RuntimeError as error:
            if self._export.error is not None:
                raise self._export.error from error
            raise self._failed(f"the appliance failed: {_first_line(error)}") from error

    def insert(self, disk: Source) -> Overlay:
        """Give the drive the content of ``disk``, followed by zeros; return the overlay that takes what is written."""
        overlay = self._export.insert(disk)
        self.call(_forget)
        return overlay

    def _failed(self, message: str) -> RehydratorError:
        lines = self._console.lines()
        said = "Its console said last:\n  " + "\n  ".join(lines) if lines else "Its console said nothing"
        return UnsupportedError(message, hint=f"{said}\nThe default engine needs no appliance")

    def _drop(self) -> None:
        """End the machine and free its handle."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        self._kill()
        try:
            self._caller.run(handle.close, lambda seconds: seconds < _CLOSING)
        except (StalledError, RuntimeError):
            return

    def _kill(self) -> None:
        """End the emulator of this machine, known by the socket that its command line names, and no other process."""
        for process in _children():
            if str(self._export.path).encode() in _command_line(process):
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def _close(self) -> None:
        self._drop()
        self._caller.close(_CLOSING)
        self._export.close()
        self._directory.remove()


def _socket_room() -> Path:
    """Return where a directory for sockets may be made: their paths are limited to some hundred bytes."""
    usual = tempfile.gettempdir()
    return Path(usual if len(os.fsencode(usual)) <= _MAX_ROOM else _SHORT_ROOM)


@contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Have what is started meanwhile make its temporary files in ``directory``.

    The emulator's overlay of the appliance (``snapshot=on``) has a name until it is opened; ended in between, the
    emulator would leave it.
    """
    usual = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(directory)
    try:
        yield
    finally:
        if usual is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = usual


def _check_descriptors() -> None:
    """Raise UnsupportedError where so many files are open that a start would end the whole process."""
    held = sum(int(entry.name) < _FD_SETSIZE for entry in Path("/proc/self/fd").iterdir())
    if held > _FD_SETSIZE - _FD_ROOM:
        raise UnsupportedError(
            "too many files are open to start a virtual machine",
            expected=f"at most {_FD_SETSIZE - _FD_ROOM}",
            actual=held,
            hint="Name fewer artifacts at once",
        )


def _forget(handle: Handle) -> None:
    """Make the guest's kernel read the drive again, partition table included."""
    handle.drop_caches(_ALL_CACHES)
    handle.blockdev_flushbufs(DEVICE)
    handle.blockdev_rereadpt(DEVICE)


def _first_line(error: RuntimeError) -> str:
    return str(error).partition("\n")[0]


def _children() -> list[int]:
    """Return the processes that this one started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # has ended
            if int(fields[1]) == os.getpid():
                found.append(int(entry.name))
    return found


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
