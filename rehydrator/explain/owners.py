"""Who owns which bytes of a disk: the partition table, and the file systems in the partitions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import groupby

import msgspec
from msgspec.structs import replace

from rehydrator.binary import FieldSpan
from rehydrator.boot import architectures
from rehydrator.boot.zipl import layout as zipl
from rehydrator.boot.zipl.installed import BOOTMAP_PATH, Installed, read_installed
from rehydrator.boot.zipl.layout import BootmapPlace
from rehydrator.boot.zipl.verify import BootDisk
from rehydrator.disk.extents import Extent
from rehydrator.disk.gpt import PartitionTable, Region, partition_types, read_table, whole_disk
from rehydrator.disk.source import Source, Window
from rehydrator.errors import CorruptError, RehydratorError
from rehydrator.explain import causes
from rehydrator.explain.gpt import Gpt, TablePlace, places, read_gpt
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.iso9660.hfsplus import hybrid_places
from rehydrator.fs.iso9660.owner import IsoFilesystem
from rehydrator.fs.place import Filesystem, Health, Kind
from rehydrator.fs.probe import Probe, magic_of, probe
from rehydrator.live.embed import IN_FILES, EmbedAreas

_BOOT_PARTITION = re.compile(r"BIOS-BOOT|PReP", re.IGNORECASE)
_TABLE_REGIONS = frozenset({"mbr", "gpt", "gap", "backup gpt", "tail"})
_BEYOND = "tail"
# File systems that are shipped without a partition table, or, as an ISO's, with one whose partitions overlap.
_WHOLE_IMAGES = frozenset({"iso9660", "squashfs", "erofs", "cpio"})
# What of an ISO 9660 image may hold structures that its file system knows nothing of.
_OPEN_IN_ISO = frozenset({Kind.SYSTEM_AREA, Kind.SLACK, Kind.FREE, Kind.FILE_DATA})
_BOOT = "boot"


class Owner(msgspec.Struct, frozen=True):
    """The owner of ``extent``. All offsets are bytes of the disk; ``start`` is where the structure begins."""

    extent: Extent
    region: Region
    structure: str
    name: str
    start: int
    fields: tuple[FieldSpan, ...] = ()
    path: str = ""
    number: int = 0
    file_offset: int = 0

    @property
    def idle(self) -> bool:
        """Whether the bytes serve nothing."""
        return self.structure in causes.IDLE

    def cut(self, extent: Extent) -> Owner:
        """Return the part of this that lies in ``extent``."""
        start = max(self.extent.offset, extent.offset)
        stop = min(self.extent.end, extent.end)
        return Owner(
            Extent(start, stop - start),
            self.region,
            self.structure,
            self.name,
            self.start,
            self.fields,
            self.path,
            self.number,
            self.file_offset + start - self.extent.offset,
        )

    def renamed(self, place: BootmapPlace, shift: int) -> Owner:
        """Return this as part of a structure of the bootmap, whose file begins ``shift`` bytes into the disk here."""
        start = place.extent.offset + shift
        return replace(self, structure=place.structure, name=place.name, start=start, fields=place.fields)


class DiskOwners:
    """The owner map of one disk. What is damaged is named in ``problems`` and owned by ``unknown``."""

    def __init__(self, disk: Source, table: PartitionTable | None = None) -> None:
        self.disk = disk
        self.problems: list[tuple[Region, Health]] = []
        self.table_problem: str = ""
        self.table = self._read_table(table)
        self.gpt: Gpt = read_gpt(disk, self.table.sector_size)
        self._table_places = places(disk, self.gpt)
        self._probes: dict[Region, Probe | None] = {}
        self._bootmaps: dict[Region, Installed | None] = {}

    def _read_table(self, other: PartitionTable | None) -> PartitionTable:
        known = magic_of(self.disk)
        if known is not None and known.type in _WHOLE_IMAGES:
            return whole_disk(self.disk)
        try:
            return read_table(self.disk)
        except CorruptError as error:
            self.table_problem = str(error)
        return _clipped(other, self.disk.size) if other is not None and self.disk.size else whole_disk(self.disk)

    @property
    def partitions(self) -> Iterator[Region]:
        """The regions that may hold a file system."""
        return (region for region in self.table.regions if region.name not in _TABLE_REGIONS)

    def probe(self, region: Region) -> Probe | None:
        """Return the file system of a partition, opened once."""
        if region not in self._probes:
            found = None
            if region.name not in _TABLE_REGIONS and region.extent.length:
                found = probe(self.window(region))
                if found is not None and found.problem:
                    self.problems.append((region, Health(f"{found.type} superblock", 0, found.problem)))
            self._probes[region] = found
        return self._probes[region]

    def window(self, region: Region) -> Source:
        """Return the bytes of a region, as far as the disk has them."""
        start = min(region.extent.offset, self.disk.size)
        return Window(self.disk, start, min(region.extent.length, self.disk.size - start))

    def unread(self, region: Region) -> str:
        """Return the type of a partition's volume if it is known, but can't be read; empty otherwise."""
        found = self.probe(region)
        return found.type if found and found.filesystem is None else ""

    def filesystem(self, region: Region) -> Filesystem | None:
        """Return the file system of a partition if it can be read."""
        found = self.probe(region)
        return found.filesystem if found else None

    def owners(self, extents: Iterable[Extent]) -> Iterator[Owner]:
        """Yield the owners of ordered ``extents``; together they cover exactly these."""
        parts = (part for extent in extents for part in self._split(extent))
        for region, group in groupby(parts, key=lambda part: part[0]):
            ranges = [part for _, part in group]
            filesystem = self.filesystem(region)
            if filesystem is not None:
                owners = self._in_filesystem(region, filesystem, ranges)
                yield from self._with_live(owners) if self.live else self._with_bootmap(region, owners)
            elif region.name in _TABLE_REGIONS:
                for extent in ranges:
                    yield from self._in_table(region, extent)
            else:
                structure = self._structure(region)
                yield from (Owner(part, region, structure, region.name, region.extent.offset) for part in ranges)

    def _structure(self, region: Region) -> str:
        """Name what a partition without a file system that can be read is as a whole."""
        found = self.probe(region)
        if found is not None and not found.problem:
            return causes.UNREAD_VOLUME
        return causes.BOOT_PARTITION if _BOOT_PARTITION.search(region.name) else str(Kind.UNKNOWN)

    def boot_disk(self, region: Region) -> BootDisk | None:
        """Return the disk as zipl sees it with ``region`` as boot partition, None where that is another or none."""
        boot = self.zipl_disk
        return boot if boot is not None and boot.start == region.extent.offset else None

    @cached_property
    def zipl_disk(self) -> BootDisk | None:
        """The disk with the partition that zipl wrote to, or should have written to; None where it has no part in it.

        That is the one with a bootmap, and else ``boot``.
        """
        found = {region: boot for region in self.partitions if (boot := self._ext4_disk(region)) is not None}
        with_bootmap = next((boot for boot in found.values() if boot.has_bootmap()), None)
        named = next((boot for region, boot in found.items() if region.label == _BOOT), None)
        if with_bootmap is not None or named is None:
            return with_bootmap
        return named if named.has_record() or self._is_made_for_zipl() else None

    def _ext4_disk(self, region: Region) -> BootDisk | None:
        filesystem = self.filesystem(region)
        if not isinstance(filesystem, Ext4Filesystem):
            return None
        return BootDisk(self.disk, filesystem.fs, region.extent.offset, self.table.sector_size)

    def _is_made_for_zipl(self) -> bool:
        kinds = [] if self.table_problem else partition_types(self.disk, self.table).values()
        found = map(architectures.by_root_type, kinds)
        return any(architecture is not None and architecture.zipl for architecture in found)

    def bootmap(self, region: Region) -> Installed | None:
        """Return the bootmap of a boot partition if there is one that can be read; it is read once."""
        if region not in self._bootmaps:
            self._bootmaps[region] = None
            if (boot := self.boot_disk(region)) is not None:
                with suppress(CorruptError):  # health tells it
                    self._bootmaps[region] = read_installed(boot.boot_record(), boot.fs)
        return self._bootmaps[region]

    def _with_bootmap(self, region: Region, owners: Iterable[Owner]) -> Iterator[Owner]:
        """Let the structures in zipl's bootmap own its bytes."""
        found: list[BootmapPlace] | None = None
        for owner in owners:
            held = owner.structure == Kind.FILE_DATA and owner.path == BOOTMAP_PATH
            installed = self.bootmap(region) if held else None
            if installed is None:
                yield owner
                continue
            found = zipl.places(installed.boot_record, installed.file) if found is None else found
            shift = owner.extent.offset - owner.file_offset
            for piece in zipl.cut(found, Extent(owner.file_offset, owner.extent.length)):
                part = owner.cut(Extent(piece.extent.offset + shift, piece.extent.length))
                yield part if piece.place is None else part.renamed(piece.place, shift)

    @cached_property
    def live(self) -> EmbedAreas | None:
        """The embed areas of an ISO 9660 image, None for a disk."""
        found = [self.filesystem(region) for region in self.partitions]
        iso = next((item.reader for item in found if isinstance(item, IsoFilesystem)), None)
        return None if iso is None else EmbedAreas(self.disk, iso)

    @cached_property
    def _live_places(self) -> list[TablePlace]:
        """The structures in an ISO 9660 image that are not of its file system, in order."""
        areas = self.live.areas if self.live else []
        found = [TablePlace(area.extent, area.structure, area.name, area.fields) for area in areas]
        hybrid = [TablePlace(item.extent, item.structure, item.name, item.fields) for item in hybrid_places(self.disk)]
        return sorted([*found, *hybrid, *self._table_places], key=lambda place: place.extent)

    def _with_live(self, owners: Iterable[Owner]) -> Iterator[Owner]:
        """Let embed areas own their bytes in files, and a partition table its own where no file is."""
        for owner in owners:
            if owner.structure not in _OPEN_IN_ISO:
                yield owner
                continue
            for piece, place in cut(owner.extent, self._live_places):
                part = owner.cut(piece)
                embedded = place is not None and place.structure in IN_FILES
                if place is None or embedded != (owner.structure == Kind.FILE_DATA):
                    yield part
                else:
                    start = place.extent.offset
                    yield replace(part, structure=place.structure, name=place.name, start=start, fields=place.fields)

    def _split(self, extent: Extent) -> Iterator[tuple[Region, Extent]]:
        held = min(extent.end, self.disk.size)
        if extent.offset < held:
            yield from self.table.split(Extent(extent.offset, held - extent.offset))
        start = max(extent.offset, held)
        if start < extent.end:
            beyond = Region(_BEYOND, Extent(self.disk.size, 0))
            yield beyond, Extent(start, extent.end - start)

    def _in_table(self, region: Region, extent: Extent) -> Iterator[Owner]:
        for piece, place in cut(extent, self._table_places):
            if place is None:
                yield _outside(region, piece)
            else:
                yield Owner(piece, region, place.structure, place.name, place.extent.offset, place.fields)

    def _in_filesystem(self, region: Region, filesystem: Filesystem, ranges: list[Extent]) -> Iterator[Owner]:
        base = region.extent.offset
        done = base
        try:
            for place in filesystem.places(Extent(part.offset - base, part.length) for part in ranges):
                extent = Extent(place.extent.offset + base, place.extent.length)
                done = extent.end
                yield Owner(
                    extent,
                    region,
                    place.kind,
                    place.name,
                    place.start + base,
                    place.fields,
                    place.path,
                    place.number,
                    place.file_offset,
                )
        except RehydratorError as error:
            self.problems.append((region, Health(filesystem.type, done - base, str(error))))
            yield from _unknown_rest(region, ranges, done)


def cut(extent: Extent, places: Iterable[TablePlace]) -> Iterator[tuple[Extent, TablePlace | None]]:
    """Yield the pieces of ``extent`` with their place; of ordered ones that overlap the first counts."""
    at = extent.offset
    for place in places:
        stop = min(place.extent.end, extent.end)
        if stop <= at:
            continue
        if place.extent.offset >= extent.end:
            break
        if place.extent.offset > at:
            yield Extent(at, place.extent.offset - at), None
            at = place.extent.offset
        yield Extent(at, stop - at), place
        at = stop
    if at < extent.end:
        yield Extent(at, extent.end - at), None


def _unknown_rest(region: Region, ranges: list[Extent], done: int) -> Iterator[Owner]:
    """Yield what follows ``done`` as owned by nobody known."""
    for part in ranges:
        start = max(part.offset, done)
        if start < part.end:
            piece = Extent(start, part.end - start)
            yield Owner(piece, region, Kind.UNKNOWN, region.name, region.extent.offset)


def _outside(region: Region, extent: Extent) -> Owner:
    return Owner(extent, region, causes.OUTSIDE, region.name, extent.offset)


def _clipped(table: PartitionTable, size: int) -> PartitionTable:
    """Return the part of a table that a disk of ``size`` bytes has, so that what is left of an image is checked."""
    regions = (
        Region(region.name, Extent(region.extent.offset, min(region.extent.length, size - region.extent.offset)),
               region.number)
        for region in table.regions
        if region.extent.offset < size
    )  # fmt: skip
    return PartitionTable(table.sector_size, tuple(regions))


def together(a: Iterable[Owner], b: Iterable[Owner]) -> Iterator[tuple[Owner, Owner]]:
    """Cut two covers of the same ranges along the borders of both."""
    ours, theirs = iter(a), iter(b)
    first, second = next(ours, None), next(theirs, None)
    while first is not None and second is not None:
        start = max(first.extent.offset, second.extent.offset)
        stop = min(first.extent.end, second.extent.end)
        if start < stop:
            both = Extent(start, stop - start)
            yield first.cut(both), second.cut(both)
        if first.extent.end <= stop:
            first = next(ours, None)
        if second.extent.end <= stop:
            second = next(theirs, None)
