"""What a manifest says about files, as a file system driver can do it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.boot.zipl.installed import BOOTMAP_PATH
from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.source import Source, Window
from rehydrator.edits.ext4_directory import Ext4Directory
from rehydrator.edits.ext4_inodes import Ext4Inodes, InodeChange
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.platform import Platform, platform_texts
from rehydrator.edits.replay import BlobReader
from rehydrator.edits.table import Edit
from rehydrator.edits.xfs_inodes import XfsInodeChange, XfsInodes
from rehydrator.edits.xfs_structures import XfsStructures
from rehydrator.edits.zipl import Zipl
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.xfs.geometry import is_xfs

# How the names of inode fields end that say mode, owner, size or attributes
_VISIBLE = (
    "_mode",
    "_uid",
    "_gid",
    "_uid_lo",
    "_gid_lo",
    "_size",
    "_size_lo",
    "_xattr_ibody",
    "_file_acl_lo",
    "_format",
)


class Written(msgspec.Struct, frozen=True):
    """The file ``path`` of partition ``number`` gets other content."""

    number: int
    path: str
    content: bytes


class Named(msgspec.Struct, frozen=True):
    """The manifest names ``path`` of ``partition`` as changed; ``content`` is None where it does not tell it whole."""

    partition: str
    path: str
    content: bytes | None = None


def named_files(base: Source, edits: Sequence[Edit], blobs: BlobReader) -> Iterator[Named]:
    """Yield every path that the edits name; ``base`` is the disk before them."""
    regions = {region.name: region for region in read_table(base).regions}
    names = {region.number: region.name for region in regions.values()}
    for edit in edits:
        match edit:
            case FileContent() if not edit.keep:
                yield Named(edit.partition, edit.path, _rest(edit, blobs))
            case Platform() | FileContent():
                written = list(written_files(base, [edit], blobs))
                yield from (Named(names[file.number], file.path, file.content) for file in written)
                if isinstance(edit, FileContent) and not written:
                    yield Named(edit.partition, edit.path)
            case Ext4Directory():
                yield from (Named(edit.partition, path) for path in edit.paths())
            case Ext4Inodes() | XfsInodes():
                yield from (
                    Named(edit.partition, change.path) for change in edit.inodes if change.path and _visible(change)
                )
            case XfsStructures():
                yield from (
                    Named(edit.partition, posixpath.join(item.path, entry.name))
                    for item in edit.structures
                    for entry in item.change.entries
                )
            case Zipl():
                yield Named(edit.partition, BOOTMAP_PATH)


def written_files(base: Source, edits: Sequence[Edit], blobs: BlobReader) -> Iterator[Written]:
    """Yield the files whose content the edits change, in their order; ``base`` is the disk before them."""
    regions = {region.name: region for region in read_table(base).regions}
    for edit in edits:
        match edit:
            case Platform():
                region = _region(regions, edit.partition)
                for text in platform_texts(Ext4(Window(base, *region.extent)), edit.id):
                    yield Written(region.number, text.path, text.content)
            case FileContent():
                region = _region(regions, edit.partition)
                partition = Window(base, *region.extent)
                if not is_xfs(partition):  # what changes there, the fixups settle
                    yield from _content(Ext4(partition), region, edit, blobs)


def _content(fs: Ext4, region: Region, edit: FileContent, blobs: BlobReader) -> Iterator[Written]:
    """Yield the content of a file that was there before, under its path; others are the fixups' matter."""
    if fs.lookup(edit.path) != edit.inode:
        return
    kept = fs.read_file(edit.inode)[: edit.keep]
    yield Written(region.number, edit.path, kept + _rest(edit, blobs))


def _visible(change: InodeChange | XfsInodeChange) -> bool:
    """Tell whether something changes that a file's owner sees, besides times."""
    forks = isinstance(change, XfsInodeChange) and change.forks is not None
    return forks or any(field.endswith(_VISIBLE) for field in change.set)


def _rest(edit: FileContent, blobs: BlobReader) -> bytes:
    """Return what follows the part that is kept."""
    return blobs(edit.blob) if edit.blob else edit.text.encode()


def _region(regions: dict[str, Region], name: str) -> Region:
    try:
        return regions[name]
    except KeyError:
        raise StoreDamagedError("an edit names a partition that the disk does not have", actual=name) from None
