"""The Python bindings of libguestfs, imported when they are needed, and what is used of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from rehydrator.errors import UnsupportedError

_HINT = (
    "Install them (Debian, Ubuntu: python3-guestfs; Fedora: python3-libguestfs) and run rehydrator with that system's "
    "Python, or link guestfs.py and libguestfsmod*.so into the environment of a Python of the same version. "
    "The default engine needs none of this"
)
EventCallback = Callable[[int, int, bytes | str | None, Sequence[int]], None]


class Handle(Protocol):
    """What is called of ``guestfs.GuestFS``; guestfs(3) describes each function. All raise RuntimeError."""

    def set_backend(self, backend: str) -> None:
        """Choose how machines are started."""

    def set_backend_setting(self, name: str, val: str) -> None:
        """Change a setting of the backend."""

    def set_path(self, searchpath: str) -> None:
        """Use a fixed appliance."""

    def set_verbose(self, verbose: int) -> None:
        """Have the appliance talk on its console."""

    def set_event_callback(self, cb: EventCallback, event_bitmask: int) -> int:
        """Call ``cb`` for events."""

    def add_drive_opts(
        self, filename: str, *, readonly: int, format: str, protocol: str, server: Sequence[str], label: str
    ) -> None:
        """Add a drive."""

    def launch(self) -> None:
        """Start the machine."""

    def shutdown(self) -> None:
        """Stop the machine."""

    def close(self) -> None:
        """Free everything."""

    def blockdev_flushbufs(self, device: str) -> None:
        """Write and forget what the kernel holds of a device."""

    def blockdev_rereadpt(self, device: str) -> None:
        """Read a partition table again."""

    def drop_caches(self, whattodrop: int) -> None:
        """Forget clean pages, directories and inodes."""

    def mount(self, mountable: str, mountpoint: str) -> None:
        """Mount a file system."""

    def pwrite(self, path: str, content: bytes, offset: int) -> int:
        """Write into a file, whose blocks stay; return how many bytes were written."""

    def truncate_size(self, path: str, size: int) -> None:
        """Set the size of a file."""

    def umount_all(self) -> None:
        """Unmount everything."""

    def list_partitions(self) -> list[str]:
        """Return the devices of all partitions."""

    def part_to_partnum(self, partition: str) -> int:
        """Return the number of a partition."""

    def vfs_type(self, mountable: str) -> str:
        """Return the type of a file system, empty for none."""

    def vfs_label(self, mountable: str) -> str:
        """Return the label of a file system, empty for none."""

    def e2fsck(self, device: str, *, correct: int, forceall: int) -> None:
        """Check an ext file system; with ``forceall`` whatever is wrong is put right."""

    def xfs_repair(self, device: str, *, nomodify: int) -> int:
        """Check an XFS file system; return 0 if it is fine."""

    def fsck(self, fstype: str, device: str) -> int:
        """Check a file system; return 0 if it is fine."""

    def mount_options(self, options: str, mountable: str, mountpoint: str) -> None:
        """Mount a file system."""

    def debug(self, subcmd: str, extraargs: Sequence[str]) -> str:
        """Run a debugging command; ``sh`` runs a shell's command outside of what is mounted."""

    def debug_upload(self, filename: str, tmpname: str, mode: int) -> None:
        """Put a file into the appliance itself."""

    def realpath(self, path: str) -> str:
        """Return a path without symbolic links."""

    def is_file(self, path: str, *, followsymlinks: int) -> int:
        """Tell whether a path is that of a regular file."""

    def read_file(self, path: str) -> bytes:
        """Return the content of a file."""

    def tar_out(self, directory: str, tarfile: str, *, xattrs: int) -> None:
        """Write a directory with all below it as a tar stream."""


class Bindings(Protocol):
    """The module ``guestfs``."""

    EVENT_APPLIANCE: int
    EVENT_LIBRARY: int

    def GuestFS(self, *, python_return_dict: bool) -> Handle:  # noqa: N802 - the module's own name
        """Return a new handle."""


def load() -> Bindings:
    """Import the bindings. Raises UnsupportedError, with what to install, where there are none."""
    try:
        module: Any = importlib.import_module("guestfs")
    except ImportError as error:
        raise UnsupportedError(f"the Python bindings of libguestfs are missing: {error}", hint=_HINT) from error
    return cast(Bindings, module)
