"""Partitions that nothing here reads: named, and compared by the drivers of a kernel where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rehydrator.explain.owners import DiskOwners
from rehydrator.explain.volumes import Compared, Pair, Start, Volume
from rehydrator.fs.probe import LUKS


class Image(msgspec.Struct, frozen=True):
    """One side of a comparison by its short name."""

    name: str
    owners: DiskOwners


def compare_unread(
    a: Image, b: Image, names: Sequence[str], start: Start | None, *, patch: bool
) -> dict[str, Compared]:
    """Compare those of the partitions ``names`` that nothing here reads; ``patch`` asks for differences of texts.

    ``start`` gives a machine with a drive of that many bytes; without it, they are only named. Raises RehydratorError
    where there is no machine.
    """
    found: dict[str, Compared] = {}
    waiting: dict[str, Pair] = {}
    for name in names:
        pair = Pair(_volume(a, name), _volume(b, name))
        missing = [volume for volume in pair.volumes if volume.missing]
        if any(volume.type == LUKS for volume in missing):
            found[name] = Compared(f"{LUKS}: encrypted, which is not opened, so that no files are compared")
        elif missing and start is not None:
            waiting[name] = pair
        elif any(not volume.damaged for volume in missing):
            what = "no native reader" if any(item.unread for item in missing) else "compressed files are not read"
            found[name] = Compared(f"{pair.types()}: {what}; use --mount")
    if waiting and start is not None:
        from rehydrator.explain.mounted import compare  # noqa: PLC0415 - most runs need none of it

        found |= zip(waiting, compare(start, list(waiting.values()), patch=patch), strict=True)
    return found


def _volume(image: Image, name: str) -> Volume | None:
    for region in image.owners.partitions:
        if region.name == name and (probed := image.owners.probe(region)) is not None:
            missing = probed.filesystem is None or not probed.filesystem.complete
            unread = probed.filesystem is None
            return Volume(image.name, probed.type, image.owners.window(region), missing, bool(probed.problem), unread)
    return None
