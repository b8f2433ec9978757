"""Artifact formats: the ``formats`` keys of stream metadata, which are also file name suffixes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Compression: TypeAlias = Literal["none", "xz", "gzip", "zip"]

_COMPRESSIONS: dict[str, Compression] = {"xz": "xz", "gz": "gzip", "zip": "zip"}

RAW_CONTAINERS = frozenset({"raw", "4k.raw"})
LIVE_CONTAINERS = frozenset({"iso", "pxe"})  # of the live system's files; all others are around a disk
CONTAINERS = LIVE_CONTAINERS | {"qcow2", "vmdk", "vhd", "vhdx", "ova", "tar", "ociarchive"}


class Format(msgspec.Struct, frozen=True):
    """A format taken apart: ``qcow2.xz`` is container ``qcow2`` in compression ``xz``."""

    container: str
    compression: Compression
    suffix: str

    @property
    def known(self) -> bool:
        """Whether the container is one that CoreOS releases have."""
        return self.container in RAW_CONTAINERS | CONTAINERS


def parse_format(name: str) -> Format:
    """Take a format name apart; unknown containers are left to the caller."""
    stem, dot, last = name.rpartition(".")
    if dot and last in _COMPRESSIONS:
        return Format(stem, _COMPRESSIONS[last], f".{last}")
    return Format(name, "none", "")
