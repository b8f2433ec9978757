"""Knowing and opening whatever file system lies in a range of bytes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rehydrator.codecs.streams import MAGICS as STREAMS
from rehydrator.disk.source import Source
from rehydrator.errors import RehydratorError
from rehydrator.fs.cpio.archive import MAGICS as CPIO
from rehydrator.fs.erofs.c_erofs import MAGIC as EROFS
from rehydrator.fs.erofs.c_erofs import SUPER_OFFSET as EROFS_OFFSET
from rehydrator.fs.iso9660.c_iso9660 import STANDARD_IDENTIFIER, SYSTEM_AREA, VolumeDescriptor
from rehydrator.fs.place import Filesystem
from rehydrator.fs.squashfs.c_squashfs import MAGIC as SQUASHFS

LUKS = "LUKS"
_HEAD = 68 << 10  # bytes in which all magics lie


class Magic(msgspec.Struct, frozen=True):
    """``magic`` at byte ``offset`` is how a volume of ``type`` is known; ``open`` reads it, None where nothing can."""

    type: str
    offset: int
    magic: bytes
    open: Callable[[Source], Filesystem] | None = None


def _ext4(source: Source) -> Filesystem:
    from rehydrator.fs.ext4.owner import Ext4Filesystem  # noqa: PLC0415 - only what is there is loaded

    return Ext4Filesystem(source)


def _xfs(source: Source) -> Filesystem:
    from rehydrator.fs.xfs.owner import XfsFilesystem  # noqa: PLC0415

    return XfsFilesystem(source)


def _fat(source: Source) -> Filesystem:
    from rehydrator.fs.fat.owner import FatFilesystem  # noqa: PLC0415

    return FatFilesystem(source)


def _iso9660(source: Source) -> Filesystem:
    from rehydrator.fs.iso9660.owner import IsoFilesystem  # noqa: PLC0415

    return IsoFilesystem(source)


def _squashfs(source: Source) -> Filesystem:
    from rehydrator.fs.squashfs.owner import SquashfsFilesystem  # noqa: PLC0415

    return SquashfsFilesystem(source)


def _erofs(source: Source) -> Filesystem:
    from rehydrator.fs.erofs.owner import ErofsFilesystem  # noqa: PLC0415

    return ErofsFilesystem(source)


def _cpio(source: Source) -> Filesystem:
    from rehydrator.fs.cpio.owner import CpioFilesystem  # noqa: PLC0415

    return CpioFilesystem(source)


MAGICS = (
    Magic("iso9660", SYSTEM_AREA + VolumeDescriptor.offset_of("StandardIdentifier"), STANDARD_IDENTIFIER, _iso9660),
    Magic("xfs", 0, b"XFSB", _xfs),
    Magic("ext4", 1024 + 0x38, b"\x53\xef", _ext4),
    Magic("fat", 54, b"FAT", _fat),
    Magic("fat", 82, b"FAT", _fat),
    Magic("squashfs", 0, SQUASHFS, _squashfs),
    Magic("erofs", EROFS_OFFSET, EROFS, _erofs),
    *(Magic("cpio", 0, magic, _cpio) for magic in CPIO),
    *(Magic("cpio", 0, magic, _cpio) for magic in STREAMS.values()),  # an initramfs whose first archive is compressed
    Magic(LUKS, 0, b"LUKS\xba\xbe"),  # cryptsetup's docs/on-disk-format-luks2.pdf, binary header
    Magic("btrfs", (64 << 10) + 64, b"_BHRfS_M"),  # btrfs-progs' kernel-shared/ctree.h, struct btrfs_super_block
    Magic("f2fs", 1024, b"\x10\x20\xf5\xf2"),  # Linux' include/linux/f2fs_fs.h, struct f2fs_super_block
)


class Probe(msgspec.Struct, frozen=True):
    """What was found: the name of the volume's type, its file system if it could be opened, else why not.

    A type that is known but that nothing here reads has neither.
    """

    type: str
    filesystem: Filesystem | None
    problem: str = ""


def magic_of(source: Source) -> Magic | None:
    """Return how the volume in ``source`` is known; None where there is none that is known."""
    head = bytes(source.read(0, min(_HEAD, source.size)))
    for magic in MAGICS:
        if head[magic.offset : magic.offset + len(magic.magic)] == magic.magic:
            return magic
    return None


def probe(source: Source) -> Probe | None:
    """Open the file system in ``source``; None where there is none that is known.

    One that is damaged beyond use, or has unknown features, is named with its problem.
    """
    magic = magic_of(source)
    if magic is None:
        return None
    if magic.open is None:
        return Probe(magic.type, None)
    try:
        return Probe(magic.type, magic.open(source))
    except RehydratorError as error:
        return Probe(magic.type, None, str(error))


def open_filesystem(source: Source) -> Filesystem | None:
    """Return the file system in ``source``, None where there is none that can be read."""
    found = probe(source)
    return found.filesystem if found else None
