"""What a manifest says about files, as a file system driver can do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.boot.zipl.installed import BOOTMAP_PATH
from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.source import Source, Window
from rehydrator.edits.ext4_directory import Ext4Directory
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.platform import Platform, platform_texts
from rehydrator.edits.replay import BlobReader
from rehydrator.edits.table import Edit
from rehydrator.edits.zipl import Zipl
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.ext4 import Ext4


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
            case Platform() | FileContent():
                written = list(written_files(base, [edit], blobs))
                yield from (Named(names[file.number], file.path, file.content) for file in written)
                if isinstance(edit, FileContent) and not written:
                    yield Named(edit.partition, edit.path)
            case Ext4Directory():
                yield from (Named(edit.partition, path) for path in edit.paths())
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
                yield from _content(Ext4(Window(base, *region.extent)), region, edit, blobs)


def _content(fs: Ext4, region: Region, edit: FileContent, blobs: BlobReader) -> Iterator[Written]:
    """Yield the content of a file that was there before, under its path; others are the fixups' matter."""
    if fs.lookup(edit.path) != edit.inode:
        return
    kept = fs.read_file(edit.inode)[: edit.keep]
    yield Written(region.number, edit.path, kept + (blobs(edit.blob) if edit.blob else edit.text.encode()))


def _region(regions: dict[str, Region], name: str) -> Region:
    try:
        return regions[name]
    except KeyError:
        raise StoreDamagedError("an edit names a partition that the disk does not have", actual=name) from None
