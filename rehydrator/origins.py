"""Where the files in an image come from, of which the body of a manifest was put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rehydrator.layers.iso import places_inside
from rehydrator.layers.iso_record import IsoRecord
from rehydrator.manifest.schema import Relocated
from rehydrator.relocation.segments import LITERAL, Segment

_KEPT = "kept literally"
_NOWHERE = "a reference that the manifest lacks"


def file_origins(record: IsoRecord, body: Relocated, segments: Sequence[Segment]) -> Iterator[str]:
    """Yield a line for each file with bytes from elsewhere, and one about all that have none."""
    names = {LITERAL: _KEPT, **dict(enumerate(body.references))}
    literal = [0, 0]  # files and their bytes
    waiting = iter(segments)
    segment = next(waiting, None)
    for file, place in places_inside(record):
        found: Counter[str] = Counter()
        while segment is not None and segment.offset < place.end:
            found[names.get(segment.reference, _NOWHERE)] += min(segment.end, place.end) - max(
                segment.offset, place.offset
            )
            if segment.end > place.end:
                break
            segment = next(waiting, None)
        origins = [name for name, _ in found.most_common() if name != _KEPT]
        if origins:
            kept = f", {found[_KEPT]} bytes {_KEPT}" if found[_KEPT] else ""
            yield f"{file.path} from {', '.join(origins)}{kept}"
        else:
            literal[0] += 1
            literal[1] += found[_KEPT]
    if literal[0]:
        yield f"{literal[0]} other files: {literal[1]} bytes {_KEPT}"
