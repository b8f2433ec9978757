"""Run by the benchmark with rehydrator's own Python: what a rehydration does between the disk and the file.

``wrap_once.py read FILE STATE`` keeps a container's record and tables and the disk's map in the directory STATE, and
prints the sizes of the first two as JSON. ``wrap_once.py write STATE RAW FILE`` wraps the raw disk again, whose map a
store has as well. ``wrap_once.py start`` takes what any of them takes to begin, and does nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import zstandard

from rehydrator.disk.extents import PIECE, Extent, ExtentMap, chunks
from rehydrator.disk.source import FileSource
from rehydrator.layers.table import LayerRecord, format_of, layer_for

_LEVEL = 19


def read(file: Path, state: Path) -> None:
    """Keep record and tables of ``file``."""
    with FileSource(file) as source:
        found = format_of(source)
        if found is None:
            raise SystemExit(f"{file}: no container")
        unwrapped = found.layer.unwrap(source, file)
        (state / "map").write_bytes(msgspec.json.encode(list(unwrapped.inner.nonzero())))
    record = msgspec.json.encode(unwrapped.record)
    (state / "record").write_bytes(record)
    for number, table in enumerate(unwrapped.tables):
        (state / f"table{number}").write_bytes(table)
    sizes = [len(zstandard.compress(data, _LEVEL)) for data in (record, *unwrapped.tables)]
    print(json.dumps({"record": sizes[0], "tables": sum(sizes[1:])}))


def write(state: Path, raw: Path, file: Path) -> None:
    """Wrap ``raw`` into ``file``."""
    record = msgspec.json.decode((state / "record").read_bytes(), type=LayerRecord)
    tables = [path.read_bytes() for path in sorted(state.glob("table*"))]
    known = ExtentMap(msgspec.json.decode((state / "map").read_bytes(), type=list[Extent]))
    with FileSource(raw, known) as disk, file.open("wb") as stream:
        wrapped = layer_for(record).wrap(disk, record, tables)
        for extent in chunks(wrapped.extents(), PIECE):
            stream.seek(extent.offset)
            stream.write(wrapped.read(*extent))
        stream.truncate(wrapped.size)


if __name__ == "__main__":
    mode, *paths = sys.argv[1:]
    if mode == "read":
        read(*map(Path, paths))
    elif mode == "write":
        write(*map(Path, paths))
