"""What has to be kept of a .xz file to write it again around its content."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

CheckName: TypeAlias = Literal["none", "crc32", "crc64", "sha256"]
PLAIN_HEADER = 12  # size of a block header without sizes


class XzRecord(msgspec.Struct, tag="xz", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a .xz file of one stream whose blocks hold ``block_size`` bytes each, the last one the rest.

    ``encoder`` is a name of :mod:`rehydrator.codecs.lzma2`; ``block_size`` is 0 where all is one block. ``sizes`` are
    the sizes of the blocks' data, where their headers hold them, as xz writes them with several threads; else empty.
    """

    file_size: int
    encoder: str = "liblzma-9"
    check: CheckName = "crc64"
    block_size: int = 0
    header_size: int = PLAIN_HEADER
    sizes: list[int] = []
