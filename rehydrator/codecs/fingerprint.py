"""Finding the encoder that compressed some chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from rehydrator.codecs import deflate, zlib_ng
from rehydrator.codecs.deflate import ZLIB, Encoder, Shape
from rehydrator.codecs.patches import patch_for
from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError

Sample: TypeAlias = tuple[Data, Data]  # content, and what it was compressed to

# Few chunks tell most encoders apart; the others are for those that are alike.
_FIRST = 4


class Found(msgspec.Struct, frozen=True):
    """The best encoder for some samples: ``hits`` of ``tried`` are right.

    ``literal`` of the ``packed`` bytes of all samples that were tried would have to be kept as patches. ``missing`` are
    the families of zlib-ng, such as ``zlib-ng-2.1``, that are not to be had here.
    """

    encoder: Encoder
    hits: int
    tried: int
    literal: int
    packed: int
    missing: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every sample is right."""
        return self.hits == self.tried


def candidates(shape: Shape) -> Iterator[str]:
    """Yield the names of encoders, the likeliest first."""
    families = [ZLIB, *(f"zlib-ng-{version}" for version in zlib_ng.CLASSES)]
    yield from (f"{family}-{level}" for level in deflate.LIKELY_LEVELS for family in families)
    yield from deflate.unusual_names(shape)


def recognise(samples: Sequence[Sample], shape: Shape = deflate.USUAL) -> Found:
    """Return the encoder that compresses the samples' content to their bytes, or comes closest.

    Raises UnsupportedError where this machine has no encoder at all.
    """
    best: Found | None = None
    missing: dict[str, UnsupportedError] = {}
    for name in candidates(shape):
        try:
            found = _try(deflate.encoder(name), samples, shape)
        except UnsupportedError as error:
            missing.setdefault(deflate.parse(name).family, error)
            continue
        if best is None or found.literal * best.packed < best.literal * found.packed:
            best = found
        if best.exact:
            break
    if best is None:
        raise next(iter(missing.values()))
    return msgspec.structs.replace(best, missing=tuple(family for family in missing if family != ZLIB))


def _try(encoder: Encoder, samples: Sequence[Sample], shape: Shape) -> Found:
    hits = tried = literal = total = 0
    for plain, packed in samples:
        if tried == _FIRST and not hits:
            break
        patch = patch_for(encoder.compress(plain, shape) or b"", bytes(packed))
        hits += patch is None
        literal += 0 if patch is None else len(patch.literal)
        tried += 1
        total += len(packed)
    return Found(encoder, hits, tried, literal, total)
