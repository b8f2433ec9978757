"""Checking a file system with its own tools in the machine; the disk stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rehydrator.disk.extents import Extent, merge
from rehydrator.disk.gpt import Region
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import Source, Window
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.errors import RehydratorError
from rehydrator.fs.place import Kind
from rehydrator.fs.probe import open_filesystem

_PROGRAMS = {"ext4": "e2fsck", "xfs": "xfs_repair", "vfat": "fsck.vfat"}
_HINTS = {"xfs": " (Debian: install libguestfs-xfs)"}
_BOOKKEEPING = frozenset({Kind.SUPERBLOCK, Kind.JOURNAL_SUPERBLOCK, Kind.BOOT_SECTOR})  # what any run of e2fsck writes


class Checkers:
    """The appliance's own checking programs; ``say`` is told of each that it lacks, once."""

    def __init__(self, machine: Machine, say: Callable[[str], None]) -> None:
        self._machine = machine
        self._say = say
        self._present: dict[str, bool] = {}

    def problem(self, device: str, kind: str, region: Region, disk: Source, driven: Overlay) -> str:
        """Tell what a check finds wrong with the file system of type ``kind`` on ``device``, empty for nothing.

        ``disk`` is what the drive holds, ``driven`` the overlay over it that takes what the machine writes. Where the
        appliance lacks the program, the driver's mount is the only check.
        """
        if not self._has(kind):
            return ""
        try:
            match kind:
                case "ext4":
                    self._machine.call(lambda handle: handle.e2fsck(device, correct=0, forceall=1))
                    changed = sorted(set(_corrected(region, disk, driven)))
                    return f"e2fsck corrects {', '.join(changed)}" if changed else ""
                case "xfs":
                    wrong = self._machine.call(lambda handle: handle.xfs_repair(device, nomodify=1))
                    return "xfs_repair finds errors" if wrong else ""
                case _:
                    wrong = self._machine.call(lambda handle: handle.fsck(kind, device))
                    return "fsck finds errors" if wrong else ""
        except RehydratorError as error:
            return error.message

    def _has(self, kind: str) -> bool:
        """Tell whether there is a program for this kind of file system."""
        program = _PROGRAMS.get(kind)
        if program is None:
            return False
        if kind not in self._present:
            found = self._machine.call(lambda handle: handle.debug("sh", [f"command -v {program} || true"]))
            self._present[kind] = bool(found.strip())
            if not self._present[kind]:
                hint = _HINTS.get(kind, "")
                self._say(f"{kind} file systems are mounted, but not checked: the appliance has no {program}{hint}")
        return self._present[kind]


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
