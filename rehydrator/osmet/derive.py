"""An osmet file and its record, one from the other, with the help of the disk that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rehydrator.disk.composed import Joined
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.xz import XzLayer
from rehydrator.osmet.c_osmet import DIGEST_SIZE, Osmet, OsmetFileHeader, OsmetPartition
from rehydrator.osmet.objects import map_objects
from rehydrator.osmet.record import OsmetRecord, TableChanges, changed, changes_between
from rehydrator.osmet.table import pack, packed_image, read_osmet

# Where most of a table can't be derived, the file is of another disk.
_MAX_CHANGED = 0.5
_XZ = XzLayer()


def record_of(file: Source, disk: Source, path: Path) -> OsmetRecord:
    """Return the record from which :func:`osmet_of` makes ``file`` of ``disk``, after comparing every byte.

    Raises CorruptError for a damaged file, and UnsupportedError for one of another disk or of an unknown encoder.
    """
    osmet = read_osmet(file, path)
    if osmet.size != disk.size:
        raise UnsupportedError("osmet file of another disk", path=path, expected=disk.size, actual=osmet.size)
    changes = _changes(osmet, map_objects(disk), path)
    head = pack(osmet)
    if len(head) != osmet.xz_offset or head != bytes(file.read(0, len(head))):
        raise UnsupportedError("osmet file with integers that are longer than they need to be", path=path)
    stream = Window(file, osmet.xz_offset, file.size - osmet.xz_offset)
    header = osmet.header
    return OsmetRecord(
        app_version=header.app_version,
        sector_size=header.sector_size,
        os_description=header.os_description,
        os_architecture=header.os_architecture,
        checksum=osmet.checksum.hex(),
        integers=osmet.integers,
        changes=changes,
        stream=_XZ.recognise(stream, packed_image(disk, osmet.partitions), path),
    )


def osmet_of(disk: Source, record: OsmetRecord) -> Source:
    """Return the osmet file of ``disk``; its end is compressed while it is read from front to back.

    Raises MismatchError for a record that does not fit the disk.
    """
    partitions = map_objects(disk)
    if record.changes:
        if len(record.changes) != len(partitions):
            raise MismatchError("the osmet record tells other partitions", expected=len(partitions))
        partitions = [changed(*pair) for pair in zip(partitions, record.changes, strict=True)]
    head = pack(
        Osmet(
            OsmetFileHeader(record.app_version, record.sector_size, record.os_description, record.os_architecture),
            partitions,
            _checksum(record),
            disk.size,
            record.integers,
            0,
        )
    )
    return Joined([BytesSource(head), _XZ.wrap(packed_image(disk, partitions), record.stream)])


def _changes(osmet: Osmet, told: Sequence[OsmetPartition], path: Path) -> list[TableChanges]:
    places = [[(item.start_offset, item.end_offset) for item in table] for table in (told, osmet.partitions)]
    if places[0] != places[1]:
        raise UnsupportedError("osmet file of other partitions", path=path, expected=places[0], actual=places[1])
    pairs = zip(told, osmet.partitions, strict=True)
    changes = [changes_between(ours.mappings, theirs.mappings) for ours, theirs in pairs]
    all_told = sum(len(item.mappings) for item in osmet.partitions)
    also = sum(len(item.also) for item in changes)
    if also > _MAX_CHANGED * all_told:
        raise UnsupportedError(
            "osmet file of another disk", path=path, expected="the extents of its objects", actual=f"{also} others"
        )
    return changes if any(item.without or item.also for item in changes) else []


def _checksum(record: OsmetRecord) -> bytes:
    try:
        checksum = bytes.fromhex(record.checksum)
    except ValueError:
        checksum = b""
    if len(checksum) != DIGEST_SIZE:
        raise MismatchError("the osmet record holds an impossible checksum", actual=record.checksum)
    return checksum
