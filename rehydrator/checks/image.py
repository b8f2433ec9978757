"""The image that is checked: its partitions, file systems and boot loader entries, each read once."""

from __future__ import annotations

from functools import cached_property
from uuid import UUID

import msgspec

from rehydrator.boot import architectures, bls, programs
from rehydrator.boot.architectures import Architecture
from rehydrator.boot.entries import entry_paths, read_text
from rehydrator.disk.gpt import Region, partition_types
from rehydrator.errors import CorruptError
from rehydrator.explain.owners import DiskOwners
from rehydrator.explain.peel import Opened
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.release.naming import FileName

BOOT = "boot"
ROOT = "root"


class Entry(msgspec.Struct, frozen=True):
    """A boot loader entry: its path, the kernel arguments ("" for none), and the files that it names."""

    path: str
    options: str
    linux: str
    initrd: str


class Image:
    """What all checks look at. ``platform`` is the one that is expected, "" where nothing tells."""

    def __init__(self, opened: Opened, named: FileName, platform: str) -> None:
        self.opened = opened
        self.named = named
        self.platform = platform
        self.owners = DiskOwners(opened.disk)

    @property
    def usable(self) -> bool:
        """Whether there is a disk whose partitions can be told."""
        return self.opened.obstacle is None and not self.owners.table_problem

    @property
    def sector(self) -> int:
        """Bytes of a sector of the disk, as its partition table counts."""
        return self.owners.table.sector_size

    @cached_property
    def types(self) -> dict[str, UUID]:
        """The type GUIDs of the partitions by the names of their regions."""
        return partition_types(self.owners.disk, self.owners.table)

    def partition(self, name: str) -> Region | None:
        """Return the partition with this name in the partition table."""
        found = (region for region in self.owners.partitions if region.label == name)
        return next(found, None)

    @cached_property
    def boot(self) -> Ext4 | None:
        """The file system of the boot partition, None where it can't be read."""
        region = self.partition(BOOT)
        filesystem = self.owners.filesystem(region) if region else None
        return filesystem.fs if isinstance(filesystem, Ext4Filesystem) else None

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The boot loader entries, in the order of their names."""
        if self.boot is None:
            return ()
        texts = [(path, read_text(self.boot, path) or "") for path in entry_paths(self.boot)]
        return tuple(
            Entry(
                path,
                bls.options_of(text) or "",
                bls.file_of(text, "linux") or "",
                bls.file_of(text, "initrd") or "",
            )
            for path, text in texts
        )

    def head(self, path: str) -> bytes | None:
        """Return the first bytes of a file of the boot partition, None where there is no such file."""
        number = self.boot.lookup(path) if self.boot and path else None
        if self.boot is None or number is None:
            return None
        inode = self.boot.inode(number)
        if inode.is_dir:
            return None
        blocks = -(-min(programs.HEAD, inode.size) // self.boot.geometry.block_size)
        data = self.boot.block_reader(self.boot.block_map(inode).runs)(0, blocks) if blocks else b""
        return data[: min(programs.HEAD, inode.size)]

    @cached_property
    def architecture(self) -> Architecture | None:
        """The architecture, told by the root partition's type, else the file's name, else the kernel."""
        for kind in self.types.values():
            if found := architectures.by_root_type(kind):
                return found
        if self.named.arch and (found := architectures.by_name(self.named.arch)):
            return found
        for entry in self.entries:
            try:
                head = self.head(entry.linux)
            except CorruptError:
                continue
            if head and (found := architectures.by_kernel(head)):
                return found
        return None
