"""What an encoder got wrong: per chunk the bytes in which it differs from what was really written.

Encoders of neighbouring versions differ in single matches: a compressed chunk then begins and ends like the real
one. A patch keeps the lengths of both common parts and the bytes between them. The table of a file's patches is a
row of variable-length numbers (LEB128: seven bits each, the lowest first): chunk, as the distance from the last one,
prefix, suffix, length of the literal; and the literal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.disk.extents import Data
from rehydrator.errors import StoreDamagedError

_MAX_SHIFT = 63


class Patch(msgspec.Struct, frozen=True):
    """The first ``prefix`` and the last ``suffix`` bytes of what the encoder gives, with ``literal`` between them."""

    prefix: int
    suffix: int
    literal: bytes

    def apply(self, made: bytes) -> bytes:
        """Return the real bytes of a chunk that the encoder compressed to ``made``."""
        if max(self.prefix, self.suffix) > len(made):
            raise StoreDamagedError("a patch is longer than the chunk that it is for", actual=len(made))
        return made[: self.prefix] + self.literal + made[len(made) - self.suffix :]


def patch_for(made: bytes, real: bytes) -> Patch | None:
    """Return the patch that turns ``made`` into ``real``; None where they are equal."""
    if made == real:
        return None
    prefix = _common(made, real)
    tail = min(len(made), len(real)) - prefix
    suffix = _common(made[::-1][:tail], real[::-1][:tail])
    return Patch(prefix, suffix, real[prefix : len(real) - suffix])


def _common(one: bytes, other: bytes) -> int:
    """Return the length of the common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class Patches:
    """The patches of a file, by the number of the chunk."""

    def __init__(self, found: Iterable[tuple[int, Patch]] = ()) -> None:
        self._patches = dict(found)

    def __len__(self) -> int:
        return len(self._patches)

    @property
    def literal_bytes(self) -> int:
        """How many bytes all literals have."""
        return sum(len(item.literal) for item in self._patches.values())

    def numbers(self) -> list[int]:
        """Return the numbers of the chunks that have a patch, in order."""
        return sorted(self._patches)

    def apply(self, chunk: int, made: bytes | None) -> bytes | None:
        """Return the real bytes of a chunk; the encoder may have given None for it."""
        patch = self._patches.get(chunk)
        return made if patch is None else patch.apply(made or b"")

    def pack(self) -> bytes:
        """Return the table."""
        parts: list[bytes] = []
        last = 0
        for chunk, patch in sorted(self._patches.items()):
            numbers = (chunk - last, patch.prefix, patch.suffix, len(patch.literal))
            parts += [*map(_varint, numbers), patch.literal]
            last = chunk
        return b"".join(parts)

    @classmethod
    def parse(cls, table: Data) -> Patches:
        """Read a table; raises StoreDamagedError for one that ends too early."""
        return cls(_entries(bytes(table)))


def _entries(table: bytes) -> Iterator[tuple[int, Patch]]:
    at = chunk = 0
    while at < len(table):
        distance, at = _number(table, at)
        prefix, at = _number(table, at)
        suffix, at = _number(table, at)
        length, at = _number(table, at)
        if at + length > len(table):
            raise StoreDamagedError("a table of patches ends within a literal", offset=at)
        chunk += distance
        yield chunk, Patch(prefix, suffix, table[at : at + length])
        at += length


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(table: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(table) and shift <= _MAX_SHIFT:
        byte = table[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise StoreDamagedError("a table of patches ends within a number", offset=at)
