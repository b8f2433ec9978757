"""What every layer provides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from rehydrator.disk.source import Source

S = TypeVar("S", bound=msgspec.Struct)
R_contra = TypeVar("R_contra", contravariant=True)


class Unwrapped(msgspec.Struct, frozen=True):
    """The inside of a wrapped file and what is needed to wrap it again.

    ``record`` is readable structure; ``tables`` are long rows of numbers (compressed sizes, for example) that the
    store keeps as blobs beside the manifest, where equal ones are shared. ``proven``: every byte of the file was
    compared with what ``wrap`` makes. ``cuts``: the sizes of the files that ``inner`` consists of, one behind the
    other, where the wrapped file is an archive; else nothing. ``notes`` are what a person should know about how it is
    kept.
    """

    inner: Source
    record: Any
    tables: tuple[bytes, ...] = ()
    proven: bool = False
    cuts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class Layer(Protocol[R_contra]):
    """A reversible wrapping: ``wrap`` of what ``unwrap`` gave has the bytes that were unwrapped."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Peel ``outer``; ``path`` names it in errors.

        Raises CorruptError for a damaged file and UnsupportedError for one that could not be wrapped again exactly.
        """
        ...

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Open ``outer`` for reading only: nothing is compressed, and decompressed is what is read.

        The record tells the file's structure, and nothing can be written from it: what compressed the file stays empty.
        Takes all that ``unwrap`` takes, and files that could not be wrapped again. Raises CorruptError for a damaged
        file, here or where the disk is read, and UnsupportedError for one that can't be read.
        """
        ...

    def wrap(self, inner: Source, record: R_contra, tables: Sequence[bytes] = ()) -> Source:
        """Return the wrapped file around ``inner``."""
        ...

    def describe(self, record: R_contra) -> str:
        """Say in a few words what the record holds."""
        ...


@runtime_checkable
class CompressionLayer(Layer[R_contra], Protocol[R_contra]):
    """A layer whose file follows from its content, once it is known who compressed it and how."""

    def recognise(self, outer: Source, content: Source, path: Path) -> Any:  # noqa: ANN401 - as Unwrapped.record
        """Return the record with which ``wrap(content, record)`` is ``outer``, after comparing every byte.

        Raises CorruptError for a damaged file and UnsupportedError where no encoder gives its bytes.
        """
        ...


def compact(record: S) -> S:
    """Return ``record`` with each value that equals its default replaced by it: msgspec omits them by identity."""
    usual = {
        item.name: item.default
        for item in msgspec.structs.fields(record)
        if item.default is not msgspec.NODEFAULT and getattr(record, item.name) == item.default
    }
    return msgspec.structs.replace(record, **usual)
