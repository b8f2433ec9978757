"""The few bincode 1.3 encodings (little-endian, variable-length integers) that CoreOS's own files use."""

_ONE_BYTE_MAX = 250
_MARKERS = ((2, 251), (4, 252), (8, 253))


def varint(value: int) -> bytes:
    """Encode an unsigned integer."""
    if value <= _ONE_BYTE_MAX:
        return bytes([value])
    for size, marker in _MARKERS:
        if value < 1 << (8 * size):
            return bytes([marker]) + value.to_bytes(size, "little")
    raise ValueError(f"{value} needs more than 64 bits")


def string(text: str) -> bytes:
    """Encode a string."""
    data = text.encode()
    return varint(len(data)) + data
