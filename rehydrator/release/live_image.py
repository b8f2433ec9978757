"""What a live ISO holds of a release: osmet files of disks, the objects that these are made of, and what it boots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.disk.composed import Joined
from rehydrator.disk.source import Source, Window
from rehydrator.errors import CorruptError, InputError, RehydratorError, UnsupportedError
from rehydrator.fs.iso9660.iso9660 import Iso9660, is_iso9660
from rehydrator.fs.probe import magic_of
from rehydrator.fs.squashfs.owner import SquashfsFilesystem
from rehydrator.layers.cpio import CpioLayer
from rehydrator.layers.cpio_record import CpioRecord
from rehydrator.osmet.c_osmet import Osmet
from rehydrator.osmet.table import is_osmet, read_osmet
from rehydrator.osmet.unpack import Stored

ROOTFS = "/images/pxeboot/rootfs.img"
_BUILD = "etc/coreos-live-rootfs"  # the member of rootfs.img that tells the build
_MAX_BUILD = 256
_OSMET = ".osmet"
_OBJECT = "/ostree/repo/objects/{}/{}.file"
_WITH_METAL = "Dehydrate a build directory or stream metadata with the metal disk itself"


class OsmetFile(msgspec.Struct, frozen=True):
    """An osmet file in rootfs.img: its ``source``, what it says, and the name of the disk that it describes."""

    source: Source
    content: Osmet
    disk_name: str


class LiveRoot:
    """The objects in the root file system of a live image; ``path`` names that in errors."""

    def __init__(self, filesystem: SquashfsFilesystem, path: Path) -> None:
        self.content: Source = filesystem.files
        self._filesystem = filesystem
        self._path = path

    def find(self, name: bytes) -> Stored | None:
        """Return where an object is kept; None for one of zeros only. Raises CorruptError where there is none."""
        digits = name.hex()
        path = _OBJECT.format(digits[:2], digits[2:])
        node = self._filesystem.nodes.get(path)
        if node is None or node.file is None:
            raise CorruptError(
                "the live root file system lacks an object", path=self._path, expected=path, actual="no such file"
            )
        placed = self._filesystem.placed(node)
        return Stored(placed.place, node.size) if placed is not None else None


class LiveImage:
    """A live ISO in ``source``; ``path`` names it in errors.

    Raises InputError for what is no ISO, UnsupportedError for one without osmet files or whose root file system is not
    read, and CorruptError for a damaged one.
    """

    def __init__(self, source: Source, path: Path) -> None:
        self._source = source
        self.path = path
        if not is_iso9660(source):
            raise InputError("is no ISO 9660 image", path=path, hint="--iso takes live ISOs")
        try:
            self._iso = Iso9660(source)
            self._check_complete()
            rootfs = self.file(ROOTFS)
            if rootfs is None:
                raise UnsupportedError("holds no live root file system", expected=ROOTFS, hint=_WITH_METAL)
            unwrapped = CpioLayer().look(rootfs, self._inside(ROOTFS))
            self._members = dict(_members(unwrapped.inner, unwrapped.record))
            self.osmets = list(self._osmets())
            self.release = self._release()
            self.root = self._root()
        except RehydratorError as error:
            raise error.located(path) from error

    @property
    def arch(self) -> str:
        """The architecture of the disks."""
        return self.osmets[0].content.header.os_architecture

    def file(self, name: str) -> Source | None:
        """Return the content of a file of the ISO, None where it has none of that path."""
        node = self._iso.nodes.get(name)
        if node is None or node.directory:
            return None
        return Joined(Window(self._source, *extent) for extent in node.extents)

    def _inside(self, name: str) -> Path:
        return self.path / name.lstrip("/")

    def _check_complete(self) -> None:
        for problem in self._iso.problems:
            raise CorruptError(f"damaged {problem.name}: {problem.problem}", offset=problem.offset)

    def _osmets(self) -> Iterator[OsmetFile]:
        """Yield the osmet files. Raises UnsupportedError where there is none."""
        found = [(name, member) for name, member in self._members.items() if is_osmet(member)]
        if not found:
            raise UnsupportedError(
                "holds no osmet file, which tells the metal disk",
                expected=f"one in {ROOTFS}",
                actual=", ".join(self._members) or "nothing",
                hint=_WITH_METAL,
            )
        for name, member in found:
            content = read_osmet(member, self._inside(ROOTFS) / name)
            yield OsmetFile(member, content, name.rpartition("/")[2].removesuffix(_OSMET))

    def _release(self) -> str:
        member = self._members.get(_BUILD)
        if member is None:
            raise UnsupportedError("does not tell its build", expected=f"{_BUILD} in {ROOTFS}", hint=_WITH_METAL)
        text = bytes(member.read(0, min(member.size, _MAX_BUILD))).strip()
        if not text.isascii() or not text.decode("ascii").isprintable() or not text:
            raise CorruptError(f"{_BUILD} in {ROOTFS} tells no build", expected="a word", actual=repr(text[:40]))
        return text.decode("ascii")

    def _root(self) -> LiveRoot:
        """Open the root file system, which is the first member of rootfs.img."""
        name, member = next(iter(self._members.items()))
        magic = magic_of(member)
        kind = magic.type if magic else "unknown"
        if kind != SquashfsFilesystem.type:
            raise UnsupportedError(
                "the live root file system is not read here", expected="squashfs", actual=kind, hint=_WITH_METAL
            )
        place = self._inside(ROOTFS) / name
        return LiveRoot(SquashfsFilesystem(member, place), place)


def _members(inner: Source, record: CpioRecord) -> Iterator[tuple[str, Source]]:
    """Yield name and content of each member of an archive that has some."""
    at = 0
    for member in record.members:
        if member.size:
            yield member.name, Window(inner, at, member.size)
        at += member.size
