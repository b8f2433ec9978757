"""What has to be kept of a gzip file to write it again around its content."""

from __future__ import annotations

import msgspec

from rehydrator.layers.c_gzip import OS_UNIX


class GzipRecord(msgspec.Struct, tag="gzip", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a gzip layer: the header's fields, the file's size, and the encoder that compressed it.

    ``deflate`` is a name of :mod:`rehydrator.codecs.deflate_stream`; ``name`` is None where the header has none.
    """

    file_size: int
    deflate: str
    name: str | None = None
    mtime: int = 0
    xfl: int = 0
    os: int = OS_UNIX
