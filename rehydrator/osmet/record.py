"""What has to be kept of an osmet file to derive it from its disk again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from rehydrator.codecs.bincode import Integers
from rehydrator.errors import MismatchError
from rehydrator.layers.xz_record import XzRecord
from rehydrator.osmet.c_osmet import DIGEST_SIZE, Mapping, OsmetPartition

_USUAL_SECTOR = 512
_CHANGE_SIZE = 3 * 8 + DIGEST_SIZE


class MappingChange(msgspec.Struct, frozen=True, array_like=True):
    """A mapping that the disk does not tell: in bytes of object and partition, and the object's checksum in hex."""

    logical: int
    physical: int
    length: int
    object: str


class TableChanges(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the mappings of a partition depart from what its file systems tell: those ``without``, by their
    ``physical``, and those that are there ``also``.
    """

    without: list[int] = []
    also: list[MappingChange] = []


class OsmetRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The fields of an osmet file's header, the disk's SHA-256 in hex, and the xz stream at its end.

    ``changes`` has one item for each partition, boot and root, or none.
    """

    app_version: str
    sector_size: int = _USUAL_SECTOR
    os_description: str
    os_architecture: str
    checksum: str
    integers: Integers = Integers.VARIABLE
    changes: list[TableChanges] = []
    stream: XzRecord

    def literal_bytes(self) -> int:
        """Bytes of the table that the disk does not tell."""
        return sum(len(item.also) for item in self.changes) * _CHANGE_SIZE


def changes_between(derived: Sequence[Mapping], actual: Sequence[Mapping]) -> TableChanges:
    """Tell how ``actual`` departs from ``derived``."""
    ours, theirs = set(derived), set(actual)
    return TableChanges(
        [item.physical for item in derived if item not in theirs],
        [MappingChange(*item[:3], item.object.hex()) for item in actual if item not in ours],
    )


def changed(derived: OsmetPartition, changes: TableChanges) -> OsmetPartition:
    """Return the partition with the changes made. Raises MismatchError for changes that make no sense."""
    without = set(changes.without)
    mappings = [item for item in derived.mappings if item.physical not in without]
    mappings += (_mapping(item) for item in changes.also)
    mappings.sort(key=lambda item: item.physical)
    _check(derived, mappings)
    return msgspec.structs.replace(derived, mappings=mappings)


def _mapping(change: MappingChange) -> Mapping:
    try:
        name = bytes.fromhex(change.object)
    except ValueError:
        name = b""
    if len(name) != DIGEST_SIZE or min(change.logical, change.physical, change.length) < 0:
        raise MismatchError("the osmet record holds an impossible mapping", actual=change)
    return Mapping(change.logical, change.physical, change.length, name)


def _check(partition: OsmetPartition, mappings: Iterable[Mapping]) -> None:
    at = 0
    for item in mappings:
        if item.physical < at or partition.start_offset + item.end > partition.end_offset:
            raise MismatchError("the osmet record holds mappings that overlap", actual=item.physical)
        at = item.end
