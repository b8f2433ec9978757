"""The report as a tree of values: what builders make and presenters show.

All offsets and sizes are bytes. The tree holds nothing that depends on the machine or the time. It is the JSON document
of ``--output json`` as it stands; docs/report.md describes it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = 1

Status = Literal["A", "D", "M"]


class Side(msgspec.Struct, frozen=True):
    """One of the two images: its short ``name`` in sentences, its file, what was peeled off it, its disk's size."""

    name: str
    file: str
    peeled: list[str]
    size: int


class FieldChange(msgspec.Struct, frozen=True):
    """A field of a container's record on both sides, as text."""

    layer: str
    field: str
    a: str
    b: str


class FileChange(msgspec.Struct, frozen=True):
    """A file that only B has (``A``, added), only A has (``D``, deleted) or that has other content (``M``).

    ``bytes`` are those of the disk that differ in it, None where only a driver read the file system; there ``M`` also
    stands for what else a file has, such as its mode. ``inside`` tells a file that holds a file system or archives.
    """

    status: Status
    path: str
    kind: str
    size_a: int | None
    size_b: int | None
    bytes: int | None
    meaning: list[str] = []
    diff: list[str] = []
    inside: list[Part] = []

    @property
    def changed(self) -> list[str]:
        """The path, or the paths of the files inside that changed, each behind the path of this one."""
        names = [name for part in self.inside for item in part.files for name in item.changed]
        return [f"{self.path}: {name}" for name in names] or [self.path]


class Derived(msgspec.Struct, frozen=True):
    """Bytes that follow from others: ``what`` is ``checksum-of:<structure>``."""

    what: str
    bytes: int


class Change(msgspec.Struct, frozen=True):
    """Changed structures of one kind and one cause.

    ``names`` are some of the ``count`` structures, ``fields`` carry the names of the specification, ``bytes`` are
    direct; ``derived`` ones come on top.
    """

    cause: str
    structure: str
    count: int
    names: list[str]
    fields: list[str]
    bytes: int
    derived: list[Derived] = []

    @property
    def derived_bytes(self) -> int:
        """Sum of the derived bytes."""
        return sum(item.bytes for item in self.derived)


class Part(msgspec.Struct, frozen=True):
    """One region of the disk: a partition, or a part of the partition table; ``note`` tells who read it, or why not.

    ``copied`` is None but for a partition that was formatted separately: so many bytes of its content were found
    somewhere in A, and ``bytes`` are those that were not.
    """

    name: str
    offset: int
    size: int
    filesystem: str
    bytes: int
    blocks: int
    files: list[FileChange]
    changes: list[Change]
    moved_files: int = 0
    note: str = ""
    copied: int | None = None


class CauseTotal(msgspec.Struct, frozen=True):
    """All bytes of one cause over the whole disk."""

    cause: str
    bytes: int
    derived: list[Derived] = []


class Evidence(msgspec.Struct, frozen=True):
    """A run of differing bytes at ``offset`` of the disk, who owns it, and the bytes of both sides in hexadecimal.

    Long runs are cut in ``a`` and ``b``, never in ``length``. ``command`` lets a person look at the owner.
    """

    offset: int
    length: int
    cause: str
    owner: str
    a: str = ""
    b: str = ""
    command: str = ""


class Note(msgspec.Struct, frozen=True):
    """Something wrong with an image on its own: which structure, where on the disk if that is known, and what."""

    image: str
    structure: str
    offset: int | None
    text: str


class Total(msgspec.Struct, frozen=True):
    """The account: every differing byte of the disks, and how many of them have a cause."""

    differing: int
    explained: int
    derived: int

    @property
    def unexplained(self) -> int:
        """Bytes without a cause."""
        return self.differing - self.explained


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``explain`` tells."""

    schema: int = SCHEMA
    verdict: str
    identical: bool
    a: Side
    b: Side
    normalised: list[str]
    digests: list[str]
    container: list[FieldChange]
    disk: list[str]
    first: str
    parts: list[Part]
    causes: list[CauseTotal]
    evidence: list[Evidence]
    evidence_left_out: int
    preparation: list[str]
    health: list[Note]
    checked: list[str]
    total: Total
