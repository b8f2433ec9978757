"""A stand-in for the bindings of libguestfs, whose machines do what ``$FAKE_GUESTFS`` says.

``fine``: they start, and write no file. ``kvm-hangs``: with KVM they never do. ``hangs``: they never start. ``exits``:
they end at once. ``stuck``: they start, and never end a call. ``stream-stuck``: they never end a stream of files. A
machine is a process that names its socket, as qemu's does; its number goes to the file ``$FAKE_GUESTFS_PIDS``. Once
one lets its caller wait, that file has a neighbour ``.waiting``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

EVENT_APPLIANCE = 16
EVENT_LIBRARY = 32
CONSOLE = b"the last words of the kernel\r\n"
_FOR_EVER = "import time; time.sleep(600)"


class GuestFS:
    """One handle."""

    def __init__(self, python_return_dict: bool) -> None:
        assert python_return_dict
        self._mode = os.environ["FAKE_GUESTFS"]
        self._tcg = "force_tcg" in os.environ.get("LIBGUESTFS_BACKEND_SETTINGS", "")
        self._server = ""
        self._qemu: subprocess.Popen[bytes] | None = None
        self._callback: Callable[[int, int, bytes, Sequence[int]], None] = lambda *_: None

    def set_backend(self, backend: str) -> None:
        assert backend == "direct"

    def set_backend_setting(self, name: str, val: str) -> None:
        self._tcg = (name, val) == ("force_tcg", "1")

    def set_path(self, searchpath: str) -> None:
        assert Path(searchpath).is_dir()

    def set_verbose(self, verbose: int) -> None:
        assert verbose == 1

    def set_event_callback(self, cb: Callable[[int, int, bytes, Sequence[int]], None], event_bitmask: int) -> int:
        assert event_bitmask & EVENT_APPLIANCE
        self._callback = cb
        return 0

    def add_drive_opts(self, filename: str, **options: object) -> None:
        server = options["server"]
        assert isinstance(server, list)
        self._server = server[0]

    def launch(self) -> None:
        (Path(os.environ["TMPDIR"]) / "vl.overlay").touch()  # as qemu's, which is ended before it has opened it
        self._qemu = subprocess.Popen([sys.executable, "-S", "-c", _FOR_EVER, self._server])
        with Path(os.environ["FAKE_GUESTFS_PIDS"]).open("a") as stream:
            stream.write(f"{self._qemu.pid} {'tcg' if self._tcg else 'kvm'}\n")
        for text in (b"launch: first", b"launch: second"):
            self._callback(EVENT_LIBRARY, 0, text, ())
        self._callback(EVENT_APPLIANCE, 0, CONSOLE, ())
        if self._mode == "exits":
            self._qemu.kill()
        if self._mode in ("hangs", "exits") or (self._mode == "kvm-hangs" and not self._tcg):
            self._wait()

    def _wait(self) -> None:
        """Wait for the machine to end, as libguestfs does: for ever if need be."""
        assert self._qemu is not None
        Path(f"{os.environ['FAKE_GUESTFS_PIDS']}.waiting").touch()
        self._qemu.wait()
        raise RuntimeError("guestfs_launch failed\nand more lines")

    def _call(self) -> None:
        if self._mode == "stuck":
            self._wait()

    def shutdown(self) -> None:
        assert self._qemu is not None
        self._qemu.terminate()
        self._qemu.wait()

    def close(self) -> None:
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()

    def drop_caches(self, whattodrop: int) -> None:
        self._call()

    def blockdev_flushbufs(self, device: str) -> None:
        self._call()

    def blockdev_rereadpt(self, device: str) -> None:
        self._call()

    def mount(self, mountable: str, mountpoint: str) -> None:
        self._call()

    def vfs_type(self, mountable: str) -> str:
        return "ext4"

    def mount_options(self, options: str, mountable: str, mountpoint: str) -> None:
        assert options.startswith("ro")

    def tar_out(self, directory: str, tarfile: str, *, xattrs: int) -> None:
        with Path(tarfile).open("wb"):
            if self._mode == "stream-stuck":
                self._wait()

    def pwrite(self, path: str, content: bytes, offset: int) -> int:
        self._call()
        return len(content)

    def truncate_size(self, path: str, size: int) -> None:
        self._call()

    def umount_all(self) -> None:
        time.sleep(0)
