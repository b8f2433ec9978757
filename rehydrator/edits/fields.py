"""Field values of on-disk structures as they stand in a manifest.

Numbers stay numbers. Bytes become text where they are text padded with zeros, else hexadecimal after ``0x``. Only
fields that changed are kept; checksums never are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias, TypeVar

from rehydrator.binary import Structure
from rehydrator.errors import StoreDamagedError

Value: TypeAlias = int | str
Fields: TypeAlias = dict[str, Value]
S = TypeVar("S", bound=Structure)
_HEX = "0x"


def encode(value: int | bytes) -> Value:
    """Return a field's value for the manifest."""
    if isinstance(value, int):
        return value
    text = value.rstrip(b"\0")
    if text.isascii() and text.decode("ascii").isprintable() and not text.startswith(_HEX.encode()):
        return text.decode("ascii")
    return _HEX + value.hex()


def changed(before: S, after: S, derived: Collection[str]) -> Fields:
    """Return the fields of ``after`` that differ from ``before``, leaving out the ``derived`` ones."""
    return {
        span.name: encode(getattr(after, span.name))
        for span in after.FIELDS
        if span.name not in derived and getattr(before, span.name) != getattr(after, span.name)
    }


def updated(structure: S, fields: Mapping[str, Value]) -> S:
    """Return ``structure`` with other field values; an unknown field or an impossible value is store damage."""
    values: dict[str, int | bytes] = {}
    sizes = {span.name: span.size for span in structure.FIELDS}
    for name, value in fields.items():
        if name not in sizes:
            raise StoreDamagedError(f"{type(structure).__name__} has no field {name}")
        if isinstance(getattr(structure, name), bytes):
            values[name] = decode_bytes(name, value, sizes[name])
        elif isinstance(value, int) and 0 <= value < 1 << 8 * sizes[name]:
            values[name] = value
        else:
            raise StoreDamagedError(f"impossible value for {name}", actual=repr(value))
    return structure.replaced(**values)


def encode_text(data: bytes) -> str:
    """Return bytes of any length, such as a name, as text where they are some, else hexadecimal after ``0x``."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _HEX + data.hex()
    return text if text.isprintable() and not text.startswith(_HEX) else _HEX + data.hex()


def decode_text(text: str) -> bytes:
    """Return the bytes; the inverse of :func:`encode_text`. Raises ValueError."""
    return bytes.fromhex(text.removeprefix(_HEX)) if text.startswith(_HEX) else text.encode()


def decode_bytes(name: str, value: Value, size: int) -> bytes:
    """Return the bytes of field ``name``, padded with zeros to ``size``; what is impossible is store damage."""
    try:
        data = decode_text(str(value))
    except ValueError as error:
        raise StoreDamagedError(f"impossible value for {name}", actual=repr(value)) from error
    if len(data) > size:
        raise StoreDamagedError(f"value too long for {name}", expected=size, actual=len(data))
    return data.ljust(size, b"\0")
