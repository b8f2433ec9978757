"""What layers share in reading a file: proof that it can be given back, and errors that say all that is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rehydrator.disk.extents import Extent, chunks
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError

REWRITE = "'qemu-img convert' writes the disk into a file without it"
KEEP = "Such a file is kept another way, which takes more room"


@contextmanager
def reading(path: Path, hint: str = KEEP, at: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Complete the errors of a reader: its file, the place that it has reached, and ``hint`` for what is not read.

    What makes a record that no file can be written from is a file that can't be written back: UnsupportedError.
    """
    try:
        yield
    except CorruptError as error:
        raise error.located(path, at()) from error
    except UnsupportedError as error:
        raise error.located(path, at(), hint) from error
    except MismatchError as error:
        raise UnsupportedError(
            f"can't be written back: {error.message}",
            path=path,
            offset=at(),
            expected=error.expected or "numbers that a record can have",
            actual=error.actual or "others",
            hint=KEEP,
        ) from error


class Cursor:
    """Reads pieces of a file; ``at`` is the place of the last one, in bytes. ``kind`` names the file's format."""

    def __init__(self, outer: Source, kind: str) -> None:
        self._outer = outer
        self._kind = kind
        self.at = 0

    def get(self, at: int, length: int) -> bytes:
        """Return ``length`` bytes from ``at`` on. Raises CorruptError where the file does not have them."""
        self.at = at
        if at < 0 or at + length > self._outer.size:
            raise CorruptError(
                f"{self._kind} file is cut short", expected=f"{length} bytes", actual=self._outer.size - at
            )
        return bytes(self._outer.read(at, length))


def first_difference(one: bytes, other: bytes) -> int | None:
    """Return the place of the first byte in which two pieces differ, or where one ends before the other; else None."""
    if one == other:
        return None
    unequal = (at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(unequal, min(len(one), len(other)))


def check_exact(
    kind: str,
    outer: Source,
    again: Source,
    ranges: Iterable[Extent],
    path: Path,
    name_of: Callable[[int], str] = lambda _: "",
) -> None:
    """Compare size and ``ranges``, those of all that is computed, of a file with what a layer writes.

    Raises UnsupportedError with the first byte that differs; ``name_of`` tells what lies at a byte.
    """
    if again.size != outer.size:
        raise UnsupportedError(
            f"this {kind} would get another size",
            path=path,
            offset=min(outer.size, again.size),
            expected=f"{again.size} bytes",
            actual=f"{outer.size} bytes",
            hint=KEEP,
        )
    for piece in chunks(ranges):
        expected, found = bytes(again.read(*piece)), bytes(outer.read(*piece))
        first = first_difference(expected, found)
        if first is not None:
            name = name_of(piece.offset + first)
            raise UnsupportedError(
                f"this {kind} would not be written back exactly" + (f": {name} differs" if name else ""),
                path=path,
                offset=piece.offset + first,
                expected=f"byte {expected[first]:#04x}",
                actual=f"{found[first]:#04x}",
                hint=KEEP,
            )
