"""What tests of container layers share: exactness without reading zeros, and files by qemu-img."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec

from rehydrator.disk.extents import chunks, merge
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import RehydratorError
from rehydrator.layers.base import Layer

PATH = Path("image")


def check_complete(error: RehydratorError, path: Path = PATH) -> None:
    """Check that an error about a file says where, what should be there, what is, and what can be done."""
    told = {name: getattr(error, name) for name in ("path", "offset", "expected", "actual", "hint")}
    assert None not in told.values(), (str(error), told)
    assert error.path == str(path)


def same(a: Source, b: Source) -> bool:
    """Tell whether two sources have the same bytes, reading those that may not be zero."""
    ranges = merge(sorted([*a.extents(), *b.extents()]))
    return a.size == b.size and all(bytes(a.read(*piece)) == bytes(b.read(*piece)) for piece in chunks(ranges))


def exact(layer: Layer[Any], outer: Source) -> tuple[Any, Source]:
    """Take a container off and put it on again, its record through JSON; return the record and the disk."""
    unwrapped = layer.unwrap(outer, PATH)
    record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=type(unwrapped.record))
    assert same(layer.wrap(unwrapped.inner, record, unwrapped.tables), outer)
    return record, unwrapped.inner


def convert(raw: Path, image: Path, *arguments: str | Path) -> Path:
    """Let qemu-img convert a raw disk; ``arguments`` begin with the format."""
    subprocess.run(["qemu-img", "convert", "-f", "raw", raw, image, "-O", *arguments], check=True, capture_output=True)
    return image


def write_source(source: Source, path: Path) -> Path:
    """Write a source to a sparse file."""
    with path.open("wb") as stream:
        stream.truncate(source.size)
        for piece in chunks(source.extents()):
            stream.seek(piece.offset)
            stream.write(source.read(*piece))
    return path


def sparse_raw(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    """Write a raw disk of ``size`` bytes with ``pieces`` by offset."""
    with path.open("wb") as stream:
        stream.truncate(size)
        for at, data in pieces.items():
            stream.seek(at)
            stream.write(data)
    return path


def patched(data: bytes | Source, offset: int, patch: bytes) -> Overlay:
    """Return a source with other bytes at one place."""
    overlay = Overlay(BytesSource(data) if isinstance(data, bytes) else data)
    overlay.write(offset, patch)
    return overlay
