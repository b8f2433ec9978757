"""bincode 1.3, the little-endian encoding of Rust's serde that CoreOS's own files use.

A structure is its fields in order, a string its length and UTF-8, a list its count and items, an
array of bytes the bytes.
Integers come in two encodings that nothing in a file tells apart: fixed (``bincode::config``) and variable
(``bincode::DefaultOptions``), where a value up to 250 is one byte and a larger one follows a marker of its size.

Source: https://github.com/bincode-org/bincode, ``docs/spec.md`` of version 1.
"""

from __future__ import annotations

import enum

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError

_ONE_BYTE_MAX = 250
_MARKERS = {2: 251, 4: 252, 8: 253}
_SIZES = {marker: size for size, marker in _MARKERS.items()}
_U32, _U64 = 4, 8
_AHEAD = 1 << 16


class Integers(enum.StrEnum):
    """How integers of more than one byte are encoded."""

    VARIABLE = "variable"
    FIXED = "fixed"

    def u32(self, value: int) -> bytes:
        """Encode an integer of 32 bits."""
        return self._encoded(value, _U32)

    def u64(self, value: int) -> bytes:
        """Encode an integer of 64 bits, a length or a count."""
        return self._encoded(value, _U64)

    def string(self, text: str) -> bytes:
        """Encode a string."""
        data = text.encode()
        return self.u64(len(data)) + data

    def _encoded(self, value: int, size: int) -> bytes:
        if self is Integers.FIXED:
            return value.to_bytes(size, "little")
        if value <= _ONE_BYTE_MAX:
            return bytes([value])
        least = next(size for size in _MARKERS if value < 1 << 8 * size)
        return bytes([_MARKERS[least]]) + value.to_bytes(least, "little")


class Reader:
    """Reads values one after the other from byte ``at`` of a source. Raises CorruptError where they make no sense."""

    def __init__(self, source: Source, integers: Integers, at: int = 0) -> None:
        self.at = at
        self._source = source
        self._integers = integers
        self._ahead = b""
        self._start = at  # of what was read ahead

    def raw(self, size: int) -> bytes:
        """Read ``size`` bytes, which the caller has bounded."""
        inside = self.at - self._start
        if inside + size > len(self._ahead):
            held = min(max(size, _AHEAD), self._source.size - self.at)
            if held < size:
                raise CorruptError(
                    "the file ends within a value", offset=self.at, expected=f"{size} bytes", actual=f"{held} bytes"
                )
            self._ahead = bytes(self._source.read(self.at, held))
            self._start, inside = self.at, 0
        self.at += size
        return self._ahead[inside : inside + size]

    def u32(self) -> int:
        """Read an integer of 32 bits."""
        return self._integer(_U32)

    def u64(self) -> int:
        """Read an integer of 64 bits."""
        return self._integer(_U64)

    def count(self, limit: int, what: str) -> int:
        """Read a length or a count of at most ``limit``; ``what`` names it in errors."""
        at = self.at
        value = self.u64()
        if value > limit:
            raise CorruptError(f"impossible {what}", offset=at, expected=f"at most {limit}", actual=value)
        return value

    def string(self, limit: int, what: str) -> str:
        """Read a string of at most ``limit`` bytes."""
        size = self.count(limit, f"length of {what}")
        at = self.at
        try:
            return self.raw(size).decode()
        except UnicodeDecodeError as error:
            found = error.object[error.start : error.end].hex()
            raise CorruptError(f"{what} is no text", offset=at + error.start, expected="UTF-8", actual=found) from error

    def _integer(self, size: int) -> int:
        if self._integers is Integers.FIXED:
            return int.from_bytes(self.raw(size), "little")
        at = self.at
        first = self.raw(1)[0]
        if first <= _ONE_BYTE_MAX:
            return first
        held = _SIZES.get(first, size + 1)
        if held > size:
            wanted = f"an integer of {8 * size} bits"
            raise CorruptError("impossible integer", offset=at, expected=wanted, actual=f"{first:#x}")
        return int.from_bytes(self.raw(held), "little")
