"""Records for files that no other program wrote: what today's tools would write around a disk, with fixed identities.

Where a tool draws a random number or takes the time, the value here follows from the file's name and the wished time,
so that the same wish gives the same bytes.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable

import msgspec

from rehydrator.disk.source import Source
from rehydrator.errors import UsageError
from rehydrator.layers.block_runs import nonzero_runs
from rehydrator.layers.c_qcow2 import ENTRY_SIZE
from rehydrator.layers.c_vhd import EPOCH
from rehydrator.layers.c_vmdk import SECTOR
from rehydrator.layers.qcow2_layout import sequential
from rehydrator.layers.qcow2_record import Qcow2Record
from rehydrator.layers.table import LayerRecord
from rehydrator.layers.tar_record import TarMember, TarRecord
from rehydrator.layers.vhd_record import VhdRecord
from rehydrator.layers.vhdx_record import VhdxHeader, VhdxRecord
from rehydrator.layers.vmdk_record import VmdkRecord

_NAMESPACE = uuid.UUID("e1d2b3a7-6c1f-5a94-9a8e-0f4a6c2b7d10")
_CLUSTER = 1 << 16
_REFCOUNTS_PER_BLOCK = _CLUSTER // 2
_MEMBER = "disk.raw"  # what gcp expects
_HEADS, _SECTORS_PER_TRACK = 255, 63


class Wrapped(msgspec.Struct, frozen=True):
    """A wished file: its name without directory, the time of the change in seconds since 1970 or 0."""

    name: str
    epoch: int = 0

    def identity(self, purpose: str) -> str:
        """Return a UUID that follows from the file."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.name} {self.epoch} {purpose}"))


def _qcow2(disk: Source, _file: Wrapped) -> Qcow2Record:
    """Lay the file out with all refcount blocks at its beginning."""
    guests = -(-disk.size // _CLUSTER)
    l1_size = max(-(-guests // (_CLUSTER // ENTRY_SIZE)), 1)
    allocated = list(nonzero_runs(disk.nonzero(), _CLUSTER))
    record = Qcow2Record(file_size=0, l1_size=l1_size)
    blocks = total = 0
    while blocks * _REFCOUNTS_PER_BLOCK < total or not total:
        blocks = max(-(-total // _REFCOUNTS_PER_BLOCK), 1)
        record = Qcow2Record(
            file_size=0, l1_size=l1_size, refcount_blocks=tuple(range(2, 2 + blocks)), l1_table=2 + blocks
        )
        last = sequential(record, allocated).runs[-1]
        total = last.host + last.count
    return msgspec.structs.replace(record, file_size=total * _CLUSTER)


def _vmdk(disk: Source, file: Wrapped) -> VmdkRecord:
    """Describe the disk as qemu-img does with ``adapter_type=lsilogic,compat6``."""
    sectors = disk.size // SECTOR
    descriptor = [
        "# Disk DescriptorFile",
        "version=1",
        f"CID={zlib.crc32(file.identity('content').encode()):08x}",
        "parentCID=ffffffff",
        'createType="streamOptimized"',
        "",
        "# Extent description",
        f'RDONLY {sectors} SPARSE "{file.name}"',
        "",
        "# The Disk Data Base",
        "#DDB",
        "",
        'ddb.virtualHWVersion = "6"',
        f'ddb.geometry.cylinders = "{sectors // (_HEADS * _SECTORS_PER_TRACK)}"',
        f'ddb.geometry.heads = "{_HEADS}"',
        f'ddb.geometry.sectors = "{_SECTORS_PER_TRACK}"',
        'ddb.adapterType = "lsilogic"',
        "",
    ]
    return VmdkRecord(descriptor=descriptor, deflate="zlib-6")


def _vhd(_disk: Source, file: Wrapped) -> VhdRecord:
    return VhdRecord(time_stamp=max(file.epoch - EPOCH, 0), unique_id=file.identity("disk"))


def _vhdx(_disk: Source, file: Wrapped) -> VhdxRecord:
    headers = tuple(VhdxHeader(number, file.identity("file"), file.identity("data")) for number in (1, 2))
    first, second = headers
    return VhdxRecord(creator="rehydrator", headers=(first, second), virtual_disk_id=file.identity("disk"))


def _tar(_disk: Source, file: Wrapped) -> TarRecord:
    return TarRecord(members=[TarMember(_MEMBER, file.epoch, type="S", sparse="nonzero")])


_FORMATS: dict[str, Callable[[Source, Wrapped], LayerRecord]] = {
    "qcow2": _qcow2,
    "vmdk": _vmdk,
    "vhd": _vhd,
    "vhdx": _vhdx,
    "tar": _tar,
}
RAW = "raw"
NAMES = (RAW, *_FORMATS)


def records(disk: Source, format_name: str, file: Wrapped) -> list[LayerRecord]:
    """Return the records of the layers around ``disk``, outermost first. Raises UsageError for an unknown format."""
    if format_name == RAW:
        return []
    if format_name not in _FORMATS:
        raise UsageError("unknown format", expected=", ".join(NAMES), actual=format_name)
    return [_FORMATS[format_name](disk, file)]
