"""Getting a whole directory tree out of the machine, through a pipe and without a temporary file."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time

from rehydrator.engines.guestfs.bindings import Handle
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.engines.guestfs.tree import Tree, read_tree
from rehydrator.errors import UnsupportedError

_OPTIONS = {"btrfs": "ro,subvolid=5", "xfs": "ro,nouuid"}  # all of btrfs, whatever its default subvolume is


class _Heard(io.FileIO):
    """Reads a pipe and remembers when something last came."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.at = time.monotonic()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read what is there, at most ``size`` bytes."""
        data = super().read(-1 if size is None else size)
        self.at = time.monotonic()
        return data


class _Reader(threading.Thread):
    """Reads a tar stream while the machine writes it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="tar", daemon=True)
        self.pipe = _Heard(descriptor)
        self.tree = Tree({})
        self.error: tarfile.TarError | None = None

    def run(self) -> None:
        """Read to the end, whatever comes: the machine must not wait for ever."""
        with self.pipe as stream:
            try:
                self.tree = read_tree(stream)
            except tarfile.TarError as error:
                self.error = error
                while stream.read(1 << 20):
                    pass


def mount(handle: Handle, device: str) -> None:
    """Mount a device for reading. What the driver writes all the same, such as its journal, stays in the overlay."""
    handle.mount_options(_OPTIONS.get(handle.vfs_type(device), "ro"), device, "/")


def mounted_tree(machine: Machine, device: str) -> Tree:
    """Mount a device and return all files in it. Raises RehydratorError, and leaves it mounted, where that fails."""
    machine.call(lambda handle: mount(handle, device))
    tree = _tree_of(machine)
    machine.call(lambda handle: handle.umount_all())
    return tree


def _tree_of(machine: Machine) -> Tree:
    """Return all that is mounted in the machine."""
    ours, theirs = os.pipe()
    reader = _Reader(ours)
    reader.start()
    try:
        machine.call(lambda handle: handle.tar_out("/", f"/dev/fd/{theirs}", xattrs=1), lambda: reader.pipe.at)
    finally:
        os.close(theirs)
        reader.join()
    if reader.error is not None:
        raise UnsupportedError(f"the machine gives no tar stream: {reader.error}") from reader.error
    return reader.tree
