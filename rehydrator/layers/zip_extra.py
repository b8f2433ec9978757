"""Extra fields of zip members: bytes to records and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rehydrator.errors import CorruptError
from rehydrator.layers.c_zip import (
    EXTRA_OWNER,
    EXTRA_TIMES,
    EXTRA_ZIP64,
    ExtraHeader,
    LargeSize,
    Owner,
    Time,
    TimesHead,
)
from rehydrator.layers.zip_record import ZipExtra, ZipLarge, ZipOther, ZipOwner, ZipTimes

_ID_SIZE = 4  # of a user or group in the field that Info-ZIP writes
_OWNER_VERSION = 1


def parse_extra(data: bytes) -> list[ZipExtra]:
    """Take extra fields apart; one that is not as Info-ZIP writes it is kept as bytes."""
    found: list[ZipExtra] = []
    at = 0
    while at < len(data):
        head = ExtraHeader.parse(data, at)
        end = at + ExtraHeader.SIZE + head.data_size
        if end > len(data):
            raise CorruptError("zip extra field is cut short", expected=head.data_size, actual=len(data) - at)
        found.append(_parse(head.header_id, data[at + ExtraHeader.SIZE : end]))
        at = end
    return found


def _parse(header_id: int, data: bytes) -> ZipExtra:
    other = ZipOther(header_id, data.hex())
    told: ZipExtra = other
    if header_id == EXTRA_ZIP64:
        told = ZipLarge(len(data) // LargeSize.SIZE)
        return told if len(data) % LargeSize.SIZE == 0 else other
    if header_id == EXTRA_TIMES and len(data) % Time.SIZE == TimesHead.SIZE:
        times = [Time.parse(data, at).seconds for at in range(TimesHead.SIZE, len(data), Time.SIZE)]
        told = ZipTimes(TimesHead.parse(data).flags, times)
    elif header_id == EXTRA_OWNER and len(data) == Owner.SIZE:
        owner = Owner.parse(data)
        told = ZipOwner(owner.uid, owner.gid)
    return told if pack_extra([told]) == pack_extra([other]) else other


def pack_extra(fields: Iterable[ZipExtra], sizes: Sequence[int] = ()) -> bytes:
    """Put extra fields together; ``sizes`` are those that a field of zip64 takes from the front.

    Raises ValueError or struct.error for what no field can hold.
    """
    return b"".join(_pack(item, sizes) for item in fields)


def _pack(item: ZipExtra, sizes: Sequence[int]) -> bytes:
    match item:
        case ZipTimes(flags=flags, seconds=seconds):
            times = b"".join(Time(seconds=value).pack() for value in seconds)
            return _framed(EXTRA_TIMES, TimesHead(flags=flags).pack() + times)
        case ZipOwner(uid=uid, gid=gid):
            owner = Owner(version=_OWNER_VERSION, uid_size=_ID_SIZE, uid=uid, gid_size=_ID_SIZE, gid=gid)
            return _framed(EXTRA_OWNER, owner.pack())
        case ZipLarge(sizes=count):
            if not 0 <= count <= len(sizes):
                raise ValueError("a field of zip64 holds other sizes")
            return _framed(EXTRA_ZIP64, b"".join(LargeSize(size=size).pack() for size in sizes[:count]))
        case ZipOther(id=header_id, data=data):
            return _framed(header_id, bytes.fromhex(data))


def _framed(header_id: int, data: bytes) -> bytes:
    return ExtraHeader(header_id=header_id, data_size=len(data)).pack() + data
