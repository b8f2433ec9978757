"""A disk as a kernel sees it: its partitions, their file systems, and every file in those."""

from __future__ import annotations

import msgspec

from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import Source
from rehydrator.engines.guestfs.fsck import Checkers
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.engines.guestfs.transfer import mounted_tree
from rehydrator.engines.guestfs.tree import Tree

_MOUNTED = ("ext4", "xfs")


class Volume(msgspec.Struct, frozen=True):
    """One partition: type and label of its file system (empty for none), what a check found wrong, its files."""

    type: str
    label: str
    problem: str
    tree: Tree


class View(msgspec.Struct, frozen=True):
    """All partitions of a disk by the names that rehydrator gives them."""

    volumes: dict[str, Volume]


def look(machine: Machine, disk: Source, checkers: Checkers) -> View:
    """Check and mount every partition of ``disk`` in ``machine``. What the machine writes meanwhile is forgotten."""
    driven = machine.insert(disk)
    regions = {region.number: region for region in read_table(disk).regions if region.partition}
    volumes: dict[str, Volume] = {}
    for device in machine.call(lambda handle: handle.list_partitions()):
        volume = _Volume(machine, device)
        region = regions.get(volume.number)
        if region is None:
            volumes[f"p{volume.number}"] = Volume("", "", "rehydrator does not see this partition", Tree({}))
            continue
        problem = checkers.problem(device, volume.type, region, disk, driven)
        volumes[region.name] = Volume(volume.type, volume.label, problem, volume.tree())
    return View(volumes)


class _Volume:
    """A partition in the machine."""

    def __init__(self, machine: Machine, device: str) -> None:
        self._machine = machine
        self._device = device
        self.number = machine.call(lambda handle: handle.part_to_partnum(device))
        self.type = machine.call(lambda handle: handle.vfs_type(device))
        self.label = machine.call(lambda handle: handle.vfs_label(device))

    def tree(self) -> Tree:
        """Mount it and read all that is in it."""
        return mounted_tree(self._machine, self._device) if self.type in _MOUNTED else Tree({})
