"""The squashfs layer: live root file systems as the files in them and the tables that tell how they are laid out.

The disk of the layer holds the tables as they are before compression, and each file's content from a multiple of 4096
bytes on, where the canonical's is found again. Writing compresses each block again; a block that the encoder gives
otherwise, as another version of its library does, is patched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rehydrator.codecs.deflate_pool import Work, in_order
from rehydrator.codecs.patches import Patch, Patches, patch_for
from rehydrator.disk.composed import Joined, Zeros
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import UnsupportedError
from rehydrator.fs.squashfs.c_squashfs import INVALID_BLK
from rehydrator.fs.squashfs.content import FilesContent
from rehydrator.fs.squashfs.plan import align, total
from rehydrator.fs.squashfs.tables import Opened, open_file_system, unpack_metadata
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.exactness import check_exact, reading
from rehydrator.layers.packed import ahead_for
from rehydrator.layers.packed_record import Patched
from rehydrator.layers.squashfs_codec import BlockEncoder, candidates, encoder
from rehydrator.layers.squashfs_file import file_system, metadata_block
from rehydrator.layers.squashfs_record import SquashfsRecord

_SAMPLES = 16
# Another version of the right library gives half of the blocks back; with fewer the content is better kept as it is.
_MAX_PATCHED_SHARE = 0.6


class SquashfsLayer:
    """Compresses files and tables into a squashfs file system, and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Take the file system apart, find its encoder and compress every block again to compare it."""
        with reading(path):
            opened = open_file_system(outer)
            survey = _Survey(opened, path)
            name = survey.find_encoder()
            patches = survey.patches(name)
            record = _record(opened, name, survey.patched(patches))
            tables = (patches.pack(),) if len(patches) else ()
            content = _content(opened, path)
            again = file_system(content, record, patches)
            check_exact("squashfs", outer, again, _around_blocks(opened), path)
        return Unwrapped(content, record, tables, proven=True, notes=survey.notes(patches))

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


class _Survey:
    """What encoders make of the content of the blocks. Those of metadata are numbered behind those of data."""

    def __init__(self, opened: Opened, path: Path) -> None:
        self._opened = opened
        self._files = FilesContent(opened, path)
        self._count = len(opened.plan.blocks)
        self._missing: dict[str, UnsupportedError] = {}  # encoders that are not to be had here

    def find_encoder(self) -> str:
        """Return the name of the encoder that gives most of some blocks back, spread over the file system."""
        packed = [number for number, block in enumerate(self._opened.plan.blocks) if block.packed]
        step = max(len(packed) // _SAMPLES, 1)
        chosen = packed[::step][:_SAMPLES] or range(self._count, self._total)
        best, fewest = "", -1
        for name in candidates(self._opened.compression, self._opened.options):
            try:
                made = self._encoder(name)
            except UnsupportedError as error:
                self._missing[name] = error
                continue
            wrong = sum(patch is not None for patch in in_order((self._compared(at, made) for at in chosen), _SAMPLES))
            if fewest < 0 or wrong < fewest:
                best, fewest = name, wrong
            if not wrong:
                return best
        if not best:
            raise next(iter(self._missing.values()))
        return best

    def patches(self, name: str) -> Patches:
        """Compress every block again, on all cores; return the patches of those that come out otherwise.

        Raises CorruptError for a damaged block, and UnsupportedError where patches would cost too much.
        """
        made = self._encoder(name)
        works = (self._compared(number, made) for number in range(self._total))
        results = enumerate(in_order(works, ahead_for(self._opened.superblock.block_size)))
        found = Patches((number, patch) for number, patch in results if patch is not None)
        total = sum(block.size for block in self._opened.plan.blocks) + sum(
            len(block.data) for block in self._opened.stored
        )
        if found.literal_bytes > _MAX_PATCHED_SHARE * total:
            raise UnsupportedError(
                f"{name} compresses {len(found)} of {self._total} blocks otherwise",
                expected=f"at most {_MAX_PATCHED_SHARE:.0%} of {total} bytes",
                actual=f"{found.literal_bytes} bytes of patches",
                hint=self._advice(found.literal_bytes),
            )
        return found

    def patched(self, patches: Patches) -> Patched | None:
        """Return the patches in numbers, None where there are none."""
        return Patched(len(patches), self._total, patches.literal_bytes) if len(patches) else None

    def notes(self, patches: Patches) -> tuple[str, ...]:
        """Say where another encoder might have spared the patches."""
        advice = self._advice(patches.literal_bytes)
        return (f"squashfs: {len(patches)} of {self._total} blocks are patched. {advice}",) if advice else ()

    def _advice(self, literal: int) -> str | None:
        """Tell how to get the encoders that were not to be had, if ``literal`` bytes could be spared."""
        if not literal or not self._missing:
            return None
        return (
            f"One of {', '.join(self._missing)}, which are not at hand, might spare up to {literal} bytes: "
            "run scripts/fetch-codecs and dehydrate again"
        )

    @property
    def _total(self) -> int:
        return self._count + len(self._opened.stored)

    def _encoder(self, name: str) -> BlockEncoder:
        opened = self._opened
        return encoder(name, opened.compression, opened.options, opened.superblock.block_size)

    def _compared(self, number: int, made: BlockEncoder) -> Work[Patch | None]:
        opened = self._opened
        if number >= self._count:
            real = opened.stored[number - self._count]
            flags = opened.superblock.flags
            return lambda: patch_for(
                metadata_block(made, unpack_metadata(real.data, opened.compression), real.table, flags), real.data
            )
        block = opened.plan.blocks[number]
        stored = bytes(opened.outer.read(block.start, block.size))

        def work() -> Patch | None:
            content = self._files.block(number)
            return patch_for(made.compress(content) or b"", stored) if block.packed else None

        return work
