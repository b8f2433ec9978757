"""What a store holds of a release, by what it is for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Disks whose file systems were made anew; metadata calls the live ISO a disk, too.
_OTHER_LINEAGE = ("metal.4k.", "qemu-secex.")
_LIVE = ("metal.iso.", "metal.pxe.")


@dataclass(frozen=True)
class Kept:
    """A manifest of the store, and the sizes of the blobs that it needs by their names."""

    path: Path
    rung: str
    blobs: dict[str, int]

    @property
    def live(self) -> bool:
        """Whether it is of a file of the live system."""
        return self.path.name.startswith(_LIVE)

    @property
    def sibling(self) -> bool:
        """Whether it is of a disk made from the image that the canonical was made from."""
        return not self.live and not self.path.name.startswith(_OTHER_LINEAGE)


def read_kept(root: Path, arch: str) -> list[Kept]:
    """Read the manifests of an architecture."""
    return [_read(path) for path in sorted((root / arch / "manifests").iterdir())]


def _read(path: Path) -> Kept:
    document: dict[str, Any] = json.loads(path.read_text())
    blobs = {item["sha256"]: int(item["size"]) for item in document.get("blobs", [])}
    return Kept(path, document["body"]["rung"], blobs)


def blobs_of(kept: Iterable[Kept]) -> frozenset[str]:
    """Return the names of the blobs that any of them needs."""
    return frozenset(name for item in kept for name in item.blobs)


def size_of(kept: Iterable[Kept], but: frozenset[str] = frozenset()) -> int:
    """Return what manifests and their blobs take, without the blobs ``but``; one that several need counts once."""
    held = list(kept)
    blobs = {name: size for item in held for name, size in item.blobs.items() if name not in but}
    return sum(item.path.stat().st_size for item in held) + sum(blobs.values())
