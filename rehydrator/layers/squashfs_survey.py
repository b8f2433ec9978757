"""Finding out who compressed a squashfs file system, by compressing its blocks again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from rehydrator.codecs import wheels
from rehydrator.codecs.deflate_pool import Work, in_order
from rehydrator.codecs.patches import Patch, Patches, patch_for
from rehydrator.errors import UnsupportedError
from rehydrator.fs.squashfs.content import FilesContent
from rehydrator.fs.squashfs.tables import Opened, unpack_metadata
from rehydrator.layers.packed import ahead_for
from rehydrator.layers.packed_record import Patched
from rehydrator.layers.squashfs_codec import BlockEncoder, candidates, encoder
from rehydrator.layers.squashfs_file import metadata_block

_SAMPLES = 16
# Another version of the right library gives half of the blocks back; with fewer the content is better kept as it is.
_MAX_PATCHED_SHARE = 0.6


class Found(msgspec.Struct, frozen=True):
    """The encoder that comes closest, by name; the blocks that it gives otherwise, in all and in numbers.

    ``notes`` say where another encoder, which is not to be had here, might come closer.
    """

    encoder: str
    patches: Patches
    patched: Patched | None
    notes: tuple[str, ...]


def survey(opened: Opened, path: Path) -> Found:
    """Find the encoder of a file system, and compress every block again; ``path`` names the file system in errors.

    Raises CorruptError for a damaged block, and UnsupportedError where there is no encoder, or patches would cost too
    much.
    """
    return _Survey(opened, path).result()


class _Trial(msgspec.Struct, frozen=True):
    """What an encoder, by name, gets ``wrong`` of some blocks."""

    name: str
    wrong: int


class _Survey:
    """What encoders make of the content of the blocks. Those of metadata are numbered behind those of data."""

    def __init__(self, opened: Opened, path: Path) -> None:
        self._opened = opened
        self._files = FilesContent(opened, path)
        self._count = len(opened.plan.blocks)
        self._total = self._count + len(opened.stored)
        self._missing: dict[str, UnsupportedError] = {}  # encoders that are not to be had here

    def result(self) -> Found:
        """Choose by some blocks of the whole file system; where others need patches, by some of those again."""
        name = self._best(self._spread()).name
        patches = self._patches(name)
        if len(patches):
            wrong = patches.numbers()[:_SAMPLES]
            other = self._best(wrong)
            if other.wrong < len(wrong):
                again = self._patches(other.name)
                if again.literal_bytes < patches.literal_bytes:
                    name, patches = other.name, again
        self._check_worth(name, patches)
        if not len(patches):
            return Found(name, patches, None, ())
        patched = Patched(len(patches), self._total, patches.literal_bytes)
        advice = wheels.advice(self._missing)
        said = f"squashfs: {len(patches)} of {self._total} blocks are patched by {patches.literal_bytes} bytes"
        return Found(name, patches, patched, (f"{said}. {advice}",) if advice else ())

    def _spread(self) -> Sequence[int]:
        """Return the numbers of some blocks of all of the file system."""
        packed = [number for number, block in enumerate(self._opened.plan.blocks) if block.packed]
        step = max(len(packed) // _SAMPLES, 1)
        return packed[::step][:_SAMPLES] or range(self._count, self._total)

    def _best(self, chosen: Iterable[int]) -> _Trial:
        """Return the encoder that gives most of some blocks back; the likelier one of two that are alike."""
        best: _Trial | None = None
        for name in candidates(self._opened.compression, self._opened.options):
            try:
                made = self._encoder(name)
            except UnsupportedError as error:
                self._missing[name] = error
                continue
            works = (self._compared(at, made) for at in chosen)
            tried = _Trial(name, sum(patch is not None for patch in in_order(works, _SAMPLES)))
            if best is None or tried.wrong < best.wrong:
                best = tried
            if not tried.wrong:
                break
        if best is None:
            raise next(iter(self._missing.values()))
        return best

    def _patches(self, name: str) -> Patches:
        """Compress every block again, on all cores; return the patches of those that come out otherwise."""
        made = self._encoder(name)
        works = (self._compared(number, made) for number in range(self._total))
        results = enumerate(in_order(works, ahead_for(self._opened.superblock.block_size)))
        return Patches((number, patch) for number, patch in results if patch is not None)

    def _check_worth(self, name: str, patches: Patches) -> None:
        opened = self._opened
        total = sum(block.size for block in opened.plan.blocks) + sum(len(block.data) for block in opened.stored)
        if patches.literal_bytes > _MAX_PATCHED_SHARE * total:
            raise UnsupportedError(
                f"{name} compresses {len(patches)} of {self._total} blocks otherwise",
                expected=f"at most {_MAX_PATCHED_SHARE:.0%} of {total} bytes",
                actual=f"{patches.literal_bytes} bytes of patches",
                hint=wheels.advice(self._missing),
            )

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
