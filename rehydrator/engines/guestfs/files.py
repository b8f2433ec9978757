"""What a manifest says about files, as a file system driver can do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.source import Source, Window
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.platform import Platform, platform_texts
from rehydrator.edits.replay import BlobReader
from rehydrator.edits.table import Edit
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.ext4 import Ext4


class Written(msgspec.Struct, frozen=True):
    """The file ``path`` of partition ``number`` gets other content."""

    number: int
    path: str
    content: bytes


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
