"""Named on-disk structures.

A format's ``c_*.py`` module declares its structures once, with the field names of the specification::

    class Header(Structure, byteorder=">"):
        magic: bytes = field("4s")
        version: int = field("I")

and code reads ``header.version``, never an offset. ``parse`` and ``pack`` are inverse to each other.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Never, Self, dataclass_transform

import msgspec

from rehydrator.errors import CorruptError


class _Code(str):
    """The :mod:`struct` format code of a field, as a class holds it until it is set up."""

    __slots__ = ()


def field(code: str) -> Any:  # noqa: ANN401 - takes the type of the annotation beside it
    """Declare a structure field by its :mod:`struct` format code, e.g. ``"I"`` or ``"16s"``."""
    return _Code(code)


class FieldSpan(msgspec.Struct, frozen=True):
    """Where a field lies within its structure, in bytes, and its :mod:`struct` format code if it has one."""

    name: str
    offset: int
    size: int
    code: str = ""


@dataclass_transform(field_specifiers=(field,), frozen_default=True, kw_only_default=True)
class Structure:
    """Base of all on-disk structures; see the module text. Fields are packed without padding.

    Behaves as a frozen dataclass whose fields are given by keyword. It is none, since generating the code of a hundred
    of them takes longer than most commands.
    """

    SIZE: ClassVar[int]
    FIELDS: ClassVar[tuple[FieldSpan, ...]]
    _codec: ClassVar[struct.Struct]
    _offsets: ClassVar[dict[str, int]]

    def __init_subclass__(cls, *, byteorder: str) -> None:
        """Build the codec of a subclass. ``byteorder`` is ``"<"`` or ``">"``."""
        own = {name: str(code) for name, code in vars(cls).items() if isinstance(code, _Code)}
        for name in own:
            delattr(cls, name)
        codes = {span.name: span.code for span in getattr(cls, "FIELDS", ())} | own
        cls._codec = struct.Struct(byteorder + "".join(codes.values()))
        cls.SIZE = cls._codec.size
        spans: list[FieldSpan] = []
        position = 0
        for name, code in codes.items():
            size = struct.calcsize(byteorder + code)
            spans.append(FieldSpan(name, position, size, code))
            position += size
        cls.FIELDS = tuple(spans)
        cls._offsets = {span.name: span.offset for span in spans}

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - each field has its own type
        if values.keys() != self._offsets.keys():
            odd = ", ".join(sorted(values.keys() ^ self._offsets.keys()))
            raise TypeError(f"{type(self).__name__}: fields missing or unknown: {odd}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed; make another with replaced()")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self.pack()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._offsets)})"

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
        made = cls.__new__(cls)
        made.__dict__.update(zip(cls._offsets, cls._codec.unpack_from(data, offset), strict=True))
        return made

    def pack(self) -> bytes:
        """Return the structure's bytes, ``SIZE`` long."""
        values = self.__dict__
        return self._codec.pack(*[values[name] for name in self._offsets])

    def replaced(self, **changes: Any) -> Self:  # noqa: ANN401 - each field has its own type
        """Return the structure with other values in some of its fields."""
        return type(self)(**{**self.__dict__, **changes})

    @classmethod
    def offset_of(cls, name: str) -> int:
        """Byte offset of field ``name`` within the structure."""
        return cls._offsets[name]
