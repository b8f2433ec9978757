"""The few bincode 1.3 encodings, all little-endian, that CoreOS's own files use."""

from collections.abc import Callable
from dataclasses import dataclass

_ONE_BYTE_MAX = 250
_MARKERS = ((2, 251), (4, 252), (8, 253))


def varint(value: int) -> bytes:
    """Encode an unsigned integer in as many bytes as it needs."""
    if value <= _ONE_BYTE_MAX:
        return bytes([value])
    for size, marker in _MARKERS:
        if value < 1 << (8 * size):
            return bytes([marker]) + value.to_bytes(size, "little")
    raise ValueError(f"{value} needs more than 64 bits")


@dataclass(frozen=True)
class Encoding:
    """How integers of 32 and of 64 bits are encoded."""

    u32: Callable[[int], bytes]
    u64: Callable[[int], bytes]

    def string(self, text: str) -> bytes:
        """Encode a string."""
        data = text.encode()
        return self.u64(len(data)) + data


VARIABLE = Encoding(varint, varint)
# What coreos-installer wrote before version 0.3.0 of June 2020.
FIXED = Encoding(lambda value: value.to_bytes(4, "little"), lambda value: value.to_bytes(8, "little"))
