"""What has to be kept of an ISO 9660 image to put it together again around the content of its files.

Building one anew would need the builder, its version and its clock. Everything but the content of files is small and
repeats itself, so it is kept as it is.
"""

from __future__ import annotations

import msgspec


class IsoFile(msgspec.Struct, array_like=True, frozen=True):
    """A file, or a part of one with several extents: ``length`` bytes from the beginning of ``sector`` on."""

    path: str
    sector: int
    length: int


class IsoRecord(msgspec.Struct, tag="iso", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of an ISO layer.

    ``size`` is the image's, ``volume`` its identifier; ``files`` are in the image's order and share no sector.
    ``tables`` names the blob with all other sectors, one behind the other.
    """

    size: int
    volume: str
    files: list[IsoFile]
    tables: list[str] = []
