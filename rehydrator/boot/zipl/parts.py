"""The parts of a bootmap as typed values."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from rehydrator.boot.zipl.pointers import Grid, Span


class Role(enum.StrEnum):
    """What a component is to the loader."""

    HEAP = "heap"
    STACK = "stack"
    STAGE3 = "stage 3 loader"
    PARAMETERS = "stage 3 parameters"
    KERNEL = "kernel"
    PARMLINE = "parmline"
    RAMDISK = "ramdisk"
    ENVIRONMENT = "environment block"
    SIGNATURE = "signature"
    OTHER = "other"


class Held(msgspec.Struct, frozen=True):
    """A component whose content lies in the bootmap file itself; ``compdat`` as in its entry."""

    role: Role
    type: int
    compdat: int
    content: bytes


class Referred(msgspec.Struct, frozen=True):
    """A component in a file of its own, told by the sectors where that lies."""

    role: Role
    type: int
    compdat: int
    spans: tuple[Span, ...]


class Execute(msgspec.Struct, frozen=True):
    """The end of the components: the program status word to start with."""

    compdat: int


Component: TypeAlias = Held | Referred | Execute


class Parts(msgspec.Struct, frozen=True):
    """Everything that a bootmap is made of, but the place of the bootmap file.

    ``header`` is its first 512 bytes; ``table_type`` that of the component table (0 for IPL).
    """

    grid: Grid
    header: bytes
    table_type: int
    components: tuple[Component, ...]

    def find(self, role: Role) -> Component | None:
        """Return the first component of a role."""
        return next((item for item in self.components if not isinstance(item, Execute) and item.role is role), None)

    @property
    def parmline(self) -> str | None:
        """The kernel's command line, None where there is none."""
        found = self.find(Role.PARMLINE)
        return found.content.split(b"\0", 1)[0].decode("latin-1") if isinstance(found, Held) else None

    def with_parmline(self, text: str) -> Parts:
        """Return these parts with another command line."""
        return replace(self, components=tuple(_with_content(item, text) for item in self.components))


def _with_content(item: Component, text: str) -> Component:
    if isinstance(item, Held) and item.role is Role.PARMLINE:
        return replace(item, content=text.encode("latin-1", "replace") + b"\0")
    return item
