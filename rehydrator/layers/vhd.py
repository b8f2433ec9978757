"""The VHD layer: fixed disks, which are a raw disk with a footer behind it."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from rehydrator.disk.extents import Data, Extent, ExtentMap
from rehydrator.disk.source import Source, Window
from rehydrator.errors import CorruptError, MismatchError, UnsupportedError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.c_vhd import COOKIE, DATA_OFFSET_FIXED, FILE_FORMAT_VERSION, DiskType, Footer
from rehydrator.layers.vhd_record import VhdRecord


class VhdLayer:
    """Wraps a disk into a fixed VHD and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the footer and check that :meth:`wrap` gives it back; the disk is right by construction."""
        at = outer.size - Footer.SIZE
        if at < 0:
            raise CorruptError(
                "too short for a VHD", path=path, offset=0, expected=f"at least {Footer.SIZE} bytes", actual=outer.size
            )
        data = bytes(outer.read(at, Footer.SIZE))
        footer = Footer.parse(data)
        _check_footer(footer, data, path, at)
        record = _record(footer, at, path)
        inner = _Disk(outer, at)
        again = VhdImage(inner, record).footer
        if again != data:
            first = next(place for place in range(Footer.SIZE) if again[place] != data[place])
            raise UnsupportedError("this VHD footer would not be written back exactly", path=path, offset=at + first)
        return Unwrapped(inner, record)

    def wrap(self, inner: Source, record: VhdRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the VHD around ``inner``."""
        return VhdImage(inner, record)

    def describe(self, record: VhdRecord) -> str:
        """Name kind and creator."""
        return f"fixed vhd by {record.creator_application.strip()} {'.'.join(map(str, record.creator_version))}"


def checksum(footer: bytes) -> int:
    """Return the one's complement of the sum of all bytes but the checksum's own."""
    at = Footer.offset_of("checksum")
    return ~(sum(footer[:at]) + sum(footer[at + 4 :])) & 0xFFFFFFFF


def _check_footer(footer: Footer, data: bytes, path: Path, at: int) -> None:
    def corrupt(name: str, expected: object, actual: object) -> CorruptError:
        where = at + Footer.offset_of(name)
        return CorruptError(f"VHD {name} is wrong", path=path, offset=where, expected=expected, actual=actual)

    if footer.cookie != COOKIE:
        raise corrupt("cookie", COOKIE.decode(), footer.cookie.hex())
    if footer.checksum != checksum(data):
        raise corrupt("checksum", f"{checksum(data):#x}", f"{footer.checksum:#x}")
    if footer.disk_type in (DiskType.DYNAMIC, DiskType.DIFFERENCING):
        name = DiskType(footer.disk_type).name.lower()
        raise UnsupportedError(f"{name} VHD", path=path, offset=at + Footer.offset_of("disk_type"))
    if footer.disk_type != DiskType.FIXED:
        raise corrupt("disk_type", "2, 3 or 4", footer.disk_type)
    if footer.file_format_version != FILE_FORMAT_VERSION:
        raise UnsupportedError("unknown VHD version", path=path, actual=f"{footer.file_format_version:#x}")
    if footer.current_size != at:
        raise corrupt("current_size", f"{at}, the bytes before the footer", footer.current_size)


def _record(footer: Footer, size: int, path: Path) -> VhdRecord:
    try:
        application, host = footer.creator_application.decode("ascii"), footer.creator_host_os.decode("ascii")
    except UnicodeDecodeError as error:
        raise UnsupportedError("VHD with a creator that is no text", path=path, offset=size) from error
    record = VhdRecord(
        time_stamp=footer.time_stamp,
        unique_id=str(uuid.UUID(bytes=footer.unique_id)),
        creator_application=application,
        creator_version=(footer.creator_version_major, footer.creator_version_minor),
        creator_host_os=host,
        geometry=(footer.cylinders, footer.heads, footer.sectors_per_track),
        features=footer.features,
        original_size=None if footer.original_size == size else footer.original_size,
        saved_state=footer.saved_state,
    )
    return compact(record)


class _Disk(Window):
    """The disk before the footer, which is looked through once."""

    def __init__(self, outer: Source, size: int) -> None:
        super().__init__(outer, 0, size)
        self._known: ExtentMap | None = None

    def nonzero(self) -> ExtentMap:
        """Scan the disk once."""
        if self._known is None:
            self._known = super().nonzero()
        return self._known


class VhdImage(Source):
    """A disk with its footer."""

    def __init__(self, disk: Source, record: VhdRecord) -> None:
        self._disk = disk
        self.size = disk.size + Footer.SIZE
        self.footer = _footer(record, disk.size)

    def extents(self) -> Iterator[Extent]:
        """Yield the disk's extents and the footer."""
        yield from self._disk.extents()
        yield Extent(self._disk.size, Footer.SIZE)

    def read(self, offset: int, length: int) -> Data:
        """Read the disk, then the footer."""
        held = max(min(length, self._disk.size - offset), 0)
        if held == length:
            return self._disk.read(offset, length)
        start = max(offset - self._disk.size, 0)
        tail = self.footer[start : start + length - held]
        return bytes(self._disk.read(offset, held)) + tail if held else tail


def _footer(record: VhdRecord, size: int) -> bytes:
    try:
        footer = Footer(
            cookie=COOKIE,
            features=record.features,
            file_format_version=FILE_FORMAT_VERSION,
            data_offset=DATA_OFFSET_FIXED,
            time_stamp=record.time_stamp,
            creator_application=record.creator_application.encode("ascii"),
            creator_version_major=record.creator_version[0],
            creator_version_minor=record.creator_version[1],
            creator_host_os=record.creator_host_os.encode("ascii"),
            original_size=size if record.original_size is None else record.original_size,
            current_size=size,
            cylinders=record.geometry[0],
            heads=record.geometry[1],
            sectors_per_track=record.geometry[2],
            disk_type=DiskType.FIXED,
            checksum=0,
            unique_id=uuid.UUID(record.unique_id).bytes,
            saved_state=record.saved_state,
            reserved=b"",
        ).pack()
    except (ValueError, OverflowError, struct.error) as error:
        raise MismatchError(f"the VHD record holds impossible values: {error}") from error
    at = Footer.offset_of("checksum")
    return footer[:at] + checksum(footer).to_bytes(4, "big") + footer[at + 4 :]
