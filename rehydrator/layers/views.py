"""Records as people read them: names and values for the comparison of two files of one format.

A view is a tree of mappings, sequences and plain values. Names are those of the record or of the format's
specification.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from rehydrator.layers.c_vhd import EPOCH
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.qcow2_record import Qcow2Record
from rehydrator.layers.tar_record import TarMember, TarRecord
from rehydrator.layers.vhd_record import VhdRecord
from rehydrator.layers.vhdx_record import VhdxRecord
from rehydrator.layers.vmdk_record import VmdkRecord
from rehydrator.layers.zip_record import ZipExtra, ZipLarge, ZipOther, ZipOwner, ZipRecord, ZipTimes

View: TypeAlias = dict[str, object]

_FEATURE_TYPES = ("incompatible", "compatible", "autoclear")
_ZIP_TIMES = ("modified", "accessed", "created")  # by the bits of the flags
_EXTENT_ACCESS = ("RW", "RDONLY", "NOACCESS")


def utc(seconds: int) -> str:
    """Return a moment as text; the bare number where no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def fields(record: msgspec.Struct) -> View:
    """Return the view of any record: its fields as they are."""
    return {name: getattr(record, name) for name in record.__struct_fields__}


def qcow2(record: Qcow2Record) -> View:
    """Name the entries of the feature name table."""
    view = fields(record)
    for kind in _FEATURE_TYPES:
        view[f"{kind}_features"] = f"{view[f'{kind}_features']:#x}"
    view["feature_names"] = {
        f"{dict(enumerate(_FEATURE_TYPES)).get(item.feature_type, item.feature_type)} bit {item.bit}": item.name
        for item in record.feature_names
    }
    return view


def vmdk(record: VmdkRecord) -> View:
    """Name the lines of the text descriptor by their keys."""
    return {**fields(record), "descriptor": dict(_descriptor(record.descriptor))}


def _descriptor(lines: list[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines):
        key, equals, value = line.partition("=")
        access, _, extent = line.partition(" ")
        if access in _EXTENT_ACCESS:
            yield "extent", f"{access} {extent}"
        elif equals:
            yield key.strip(), value.strip()
        else:
            yield f"line {number + 1}", line


def vhd(record: VhdRecord) -> View:
    """Tell the time; show what a dynamic disk has more as fields of its own."""
    view = {name: value for name, value in fields(record).items() if name != "dynamic"}
    kind = {"disk_type": "fixed"} if record.dynamic is None else {"disk_type": "dynamic", **fields(record.dynamic)}
    return {**view, **kind, "time_stamp": utc(record.time_stamp + EPOCH)}


def vhdx(record: VhdxRecord) -> View:
    """Number the headers."""
    headers = {f"header {number}": fields(item) for number, item in enumerate(record.headers, 1)}
    return headers | {name: value for name, value in fields(record).items() if name != "headers"}


def gzip(record: GzipRecord) -> View:
    """Tell the time."""
    return {**fields(record), "mtime": utc(record.mtime)}


def zip_file(record: ZipRecord) -> View:
    """Name the fields as the specification does, those of extra fields by Info-ZIP's names; times that have a zone."""
    member = {
        "last mod file time": record.modified,
        "general purpose bit flag": f"{record.flags:#06x}",
        "version made by": f"{record.version_made_by >> 8}/{record.version_made_by & 0xFF}",
        "version needed": record.version_needed,
        "internal file attributes": f"{record.internal_attributes:#06x}",
        "external file attributes": f"{record.external_attributes:#010x}",
        "extra field": dict(_extra_fields(record.extra)),
        "extra field of the directory": dict(_extra_fields(record.central_extra)),
    }
    return {record.name: member, "zip64 end": record.end64, "deflate": record.deflate, "file_size": record.file_size}


def _extra_fields(extra: list[ZipExtra]) -> Iterator[tuple[str, object]]:
    for item in extra:
        match item:
            case ZipTimes(flags=flags, seconds=seconds):
                names = [name for bit, name in enumerate(_ZIP_TIMES) if flags >> bit & 1]
                yield "UT flags", flags
                yield from ((f"UT {name}", utc(value)) for name, value in zip(names, seconds, strict=False))
            case ZipOwner(uid=uid, gid=gid):
                yield from (("ux uid", uid), ("ux gid", gid))
            case ZipLarge(sizes=sizes):
                yield "zip64 sizes", sizes
            case ZipOther(id=header_id, data=data):
                yield f"{header_id:#06x}", data


def tar(record: TarRecord) -> View:
    """Name the members, JSON documents and the values that they follow from field by field."""
    view = {name: value for name, value in fields(record).items() if name not in ("members", "oci")}
    if record.oci is not None:
        view |= {**fields(record.oci), "created": utc(record.oci.created)}
    for number, member in enumerate(record.members):
        role = _role(member, is_disk=number == record.disk)
        name = role if role not in view else f"{role} ({number})"
        view[name] = _member(member)
    return view


def _member(member: TarMember) -> View:
    view = {name: value for name, value in fields(member).items() if name != "text"}
    document = _document(member)
    view["mtime"] = utc(member.mtime)
    view["content"] = member.text if document is None else document
    return view


def _role(member: TarMember, *, is_disk: bool) -> str:
    """Return a name that members of two archives share: those of OCI are called by their digests."""
    if member.oci:
        return member.oci if member.oci in ("layout", "index") else f"{member.oci} blob"
    if not member.name.startswith("blobs/sha256/"):
        return member.name
    document = _document(member) or {}
    if is_disk:
        return "layer blob"
    return "config blob" if "rootfs" in document else "manifest blob" if "layers" in document else "blob"


def _document(member: TarMember) -> dict[str, Any] | None:
    if not member.text or not member.text[0].startswith("{"):
        return None
    try:
        found = json.loads(member.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


_VIEWS: Mapping[type[Any], Callable[[Any], View]] = {
    Qcow2Record: qcow2,
    VmdkRecord: vmdk,
    VhdRecord: vhd,
    VhdxRecord: vhdx,
    GzipRecord: gzip,
    TarRecord: tar,
    ZipRecord: zip_file,
}


def view_of(record: msgspec.Struct) -> View:
    """Return the view of a record."""
    return _VIEWS.get(type(record), fields)(record)
