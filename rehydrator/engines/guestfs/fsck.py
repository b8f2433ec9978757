"""Checking a file system with its own tools in the machine; the disk stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.disk.extents import Extent, merge
from rehydrator.disk.gpt import Region
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import Source, Window
from rehydrator.engines.guestfs.bindings import Handle
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.errors import RehydratorError
from rehydrator.fs.place import Kind
from rehydrator.fs.probe import open_filesystem

XFS_FEATURE = "xfs"
_BOOKKEEPING = frozenset({Kind.SUPERBLOCK, Kind.JOURNAL_SUPERBLOCK, Kind.BOOT_SECTOR})  # what any run of e2fsck writes


def problem_of(machine: Machine, device: str, kind: str, region: Region, disk: Source, driven: Overlay) -> str:
    """Tell what a check finds wrong with the file system of type ``kind`` on ``device``, empty for nothing.

    ``disk`` is what the drive holds, ``driven`` the overlay over it that takes what the machine writes.
    """
    try:
        match kind:
            case "ext4":
                machine.call(lambda handle: handle.e2fsck(device, correct=0, forceall=1))
                changed = sorted(set(_corrected(region, disk, driven)))
                return f"e2fsck corrects {', '.join(changed)}" if changed else ""
            case "xfs":
                return "xfs_repair finds errors" if machine.call(lambda handle: _xfs(handle, device)) else ""
            case "vfat":
                return "fsck finds errors" if machine.call(lambda handle: handle.fsck(kind, device)) else ""
    except RehydratorError as error:
        return str(error).partition("\n")[0]
    return ""


def _xfs(handle: Handle, device: str) -> int:
    """Run xfs_repair where the appliance has it; there the driver's mount is the only check otherwise."""
    return handle.xfs_repair(device, nomodify=1) if handle.feature_available([XFS_FEATURE]) else 0


def _corrected(region: Region, disk: Source, driven: Overlay) -> Iterator[str]:
    """Name the structures that were written with other content, but for those that a check always writes."""
    start, length = region.extent
    filesystem = open_filesystem(Window(disk, start, length))
    for extent in driven.patched:
        before, after = bytes(disk.read(*extent)), bytes(driven.read(*extent))
        runs = merge(
            Extent(extent.offset + at - start, 1)
            for at, pair in enumerate(zip(before, after, strict=True))
            if pair[0] != pair[1]
        )
        inside = [run for run in runs if 0 <= run.offset < length]
        if filesystem is None and inside:
            yield "a file system that can't be read otherwise"
        elif filesystem is not None:
            yield from (place.name for place in filesystem.places(inside) if place.kind not in _BOOKKEEPING)
