"""Named on-disk structures.

A format's ``c_*.py`` module declares its structures once, with the field names of the specification::

    class Header(Structure, byteorder=">"):
        magic: bytes = field("4s")
        version: int = field("I")

and code reads ``header.version``, never an offset. ``parse`` and ``pack`` are inverse to each other.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any, ClassVar, Self, dataclass_transform

from rehydrator.errors import CorruptError


def field(code: str) -> Any:  # noqa: ANN401 - takes the type of the annotation beside it
    """Declare a structure field by its :mod:`struct` format code, e.g. ``"I"`` or ``"16s"``."""
    return dataclasses.field(metadata={"code": code})


@dataclasses.dataclass(frozen=True)
class FieldSpan:
    """Where a field lies within its structure, in bytes."""

    name: str
    offset: int
    size: int


@dataclass_transform(field_specifiers=(field,), frozen_default=True, kw_only_default=True)
class Structure:
    """Base of all on-disk structures; see the module text. Fields are packed without padding."""

    SIZE: ClassVar[int]
    _codec: ClassVar[struct.Struct]
    FIELDS: ClassVar[tuple[FieldSpan, ...]]
    _offsets: ClassVar[dict[str, int]]

    def __init_subclass__(cls, *, byteorder: str) -> None:
        """Build the codec of a subclass. ``byteorder`` is ``"<"`` or ``">"``."""
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        codes: list[str] = [item.metadata["code"] for item in dataclasses.fields(cls)]  # type: ignore[arg-type]
        cls._codec = struct.Struct(byteorder + "".join(codes))
        cls.SIZE = cls._codec.size
        spans: list[FieldSpan] = []
        position = 0
        for item in dataclasses.fields(cls):  # type: ignore[arg-type]
            size = struct.calcsize(byteorder + item.metadata["code"])
            spans.append(FieldSpan(item.name, position, size))
            position += size
        cls.FIELDS = tuple(spans)
        cls._offsets = {span.name: span.offset for span in spans}

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview, offset: int = 0) -> Self:
        """Read the structure at byte ``offset`` of ``data``. Raises CorruptError when ``data`` ends early."""
        available = len(data) - offset
        if available < cls.SIZE:
            raise CorruptError(
                f"{cls.__name__} is cut short",
                expected=f"{cls.SIZE} bytes",
                actual=f"{max(available, 0)} bytes",
            )
        names = cls._offsets
        return cls(**dict(zip(names, cls._codec.unpack_from(data, offset), strict=True)))

    def pack(self) -> bytes:
        """Return the structure's bytes, ``SIZE`` long."""
        return self._codec.pack(*(getattr(self, name) for name in self._offsets))

    @classmethod
    def offset_of(cls, name: str) -> int:
        """Byte offset of field ``name`` within the structure."""
        return cls._offsets[name]
