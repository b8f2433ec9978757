"""The squashfs layer: live root file systems as the files in them and the tables that tell how they are laid out.

The disk of the layer holds the tables as they are before compression, and each file's content from a multiple of 4096
bytes on, where the canonical's is found again. Writing compresses each block again; a block that the encoder gives
otherwise, as another version of its library does, is patched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rehydrator.codecs.patches import Patches
from rehydrator.disk.composed import Joined, Zeros
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.fs.squashfs.c_squashfs import INVALID_BLK
from rehydrator.fs.squashfs.content import FilesContent
from rehydrator.fs.squashfs.plan import align, total
from rehydrator.fs.squashfs.tables import Opened, open_file_system
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.exactness import check_exact, reading
from rehydrator.layers.packed_record import Patched
from rehydrator.layers.squashfs_file import file_system
from rehydrator.layers.squashfs_record import SquashfsRecord
from rehydrator.layers.squashfs_survey import survey


class SquashfsLayer:
    """Compresses files and tables into a squashfs file system, and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Take the file system apart, find its encoder and compress every block again to compare it."""
        with reading(path):
            opened = open_file_system(outer)
            found = survey(opened, path)
            patches = found.patches
            record = _record(opened, found.encoder, found.patched)
            tables = (patches.pack(),) if len(patches) else ()
            content = _content(opened, path)
            again = file_system(content, record, patches)
            check_exact("squashfs", outer, again, _around_blocks(opened), path)
        return Unwrapped(content, record, tables, proven=True, notes=found.notes)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Open the file system for reading only."""
        with reading(path):
            opened = open_file_system(outer)
        return Unwrapped(_content(opened, path), _record(opened, "", None))

    def wrap(self, inner: Source, record: SquashfsRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the file system as a source whose blocks are compressed while it is read."""
        return file_system(inner, record, Patches.parse(b"".join(tables)))

    def describe(self, record: SquashfsRecord) -> str:
        """Name the encoder and what it did not give back."""
        by = f" by {record.encoder}" if record.encoder else f" {record.compression}"
        said = f"squashfs{by}, {record.inodes:,} inodes"
        if record.patched is not None:
            patched = record.patched
            said += f", {patched.chunks:,} of {patched.of:,} blocks patched, {patched.literal_bytes:,} literal bytes"
        return said


def _content(opened: Opened, path: Path) -> Joined:
    """Return what a layer gives as its disk: the tables, what lies between blocks, the files, and what follows."""
    outer, plan = opened.outer, opened.plan
    used = opened.superblock.bytes_used
    front = len(opened.metadata) + total(plan.gaps)
    return Joined(
        [
            BytesSource(opened.metadata),
            *(Window(outer, *gap) for gap in plan.gaps),
            Zeros(align(front) - front),
            FilesContent(opened, path),
            Window(outer, used, outer.size - used),
        ]
    )


def _record(opened: Opened, name: str, patched: Patched | None) -> SquashfsRecord:
    found = opened.superblock
    return compact(
        SquashfsRecord(
            file_size=opened.outer.size,
            compression=opened.compression.name.lower(),
            encoder=name,
            mkfs_time=found.mkfs_time,
            block_size=found.block_size,
            inodes=found.inodes,
            fragments=found.fragments,
            flags=found.flags,
            no_ids=found.no_ids,
            root_inode=found.root_inode,
            bytes_used=found.bytes_used,
            id_table_start=found.id_table_start,
            inode_table_start=found.inode_table_start,
            directory_table_start=found.directory_table_start,
            fragment_table_start=_place(found.fragment_table_start),
            xattr_id_table_start=_place(found.xattr_id_table_start),
            lookup_table_start=_place(found.lookup_table_start),
            metadata=opened.tables,
            options=opened.options,
            patched=patched,
        )
    )


def _place(start: int) -> int | None:
    return None if start == INVALID_BLK else start


def _around_blocks(opened: Opened) -> Iterable[Extent]:
    """Yield the ranges of the file system in which no block of data lies: those of the blocks are compared already."""
    start = 0
    for block in opened.plan.blocks:
        if block.start > start:
            yield Extent(start, block.start - start)
        start = block.end
    yield Extent(start, opened.outer.size - start)
