"""Where the objects of an ostree repository lie on a disk, as coreos-installer finds them.

Source: coreos-installer, ``src/osmet/mod.rs`` (``osmet_pack``, ``scan_root_partition``, ``prescan_boot_partition``,
``canonicalize``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.disk.extents import CHUNK
from rehydrator.disk.gpt import PartitionTable, Region, read_table
from rehydrator.disk.source import Source, Window
from rehydrator.errors import UnsupportedError
from rehydrator.fs.files import FileExtent, Node, Tree, content, tree_of, walk
from rehydrator.fs.probe import open_filesystem
from rehydrator.osmet.c_osmet import Mapping, OsmetPartition

_PARTITIONS = ("boot", "root")
_OBJECTS = "/ostree/repo/objects"
_DIRECTORY = re.compile(rb"[0-9a-f]{2}")
_FILE_OBJECT = re.compile(rb"([0-9a-f]{62})\.file")
# A smaller file of the boot partition is not looked for among the objects.
_MIN_BOOT_FILE = 1024


class _Volume(msgspec.Struct, frozen=True):
    region: Region
    source: Source
    tree: Tree


class _Object(msgspec.Struct, frozen=True):
    name: bytes
    node: Node
    extents: list[FileExtent]


def map_objects(disk: Source) -> list[OsmetPartition]:
    """Return the table that coreos-installer would write for ``disk``: of its boot partition, then of its root.

    An extent that objects share is of the lowest name; the installer takes the one that it met last.
    Raises UnsupportedError for a disk without these partitions or whose file systems are not read here.
    """
    table = read_table(disk)
    boot, root = (_volume(disk, table, name) for name in _PARTITIONS)
    by_size: dict[int, Node] = {}
    for node in walk(boot.tree, boot.tree.root):
        if node.size > _MIN_BOOT_FILE:
            by_size.setdefault(node.size, node)
    in_boot: list[Mapping] = []
    in_root: list[Mapping] = []
    for item in _objects(root.tree):
        in_root += _mappings(item.extents, item.name)
        candidate = by_size.get(item.node.size)
        if candidate is not None and _equal(boot, candidate, root, item.node):
            in_boot += _mappings(boot.tree.extents(candidate.number), item.name)
            del by_size[item.node.size]
    return [
        OsmetPartition(volume.region.extent.offset, volume.region.extent.end, _canonical(mappings))
        for volume, mappings in ((boot, in_boot), (root, in_root))
    ]


def _volume(disk: Source, table: PartitionTable, name: str) -> _Volume:
    region = next((item for item in table.regions if item.label == name), None)
    source = Window(disk, region.extent.offset, region.extent.length) if region else None
    tree = tree_of(open_filesystem(source)) if source else None
    if region is None or source is None or tree is None:
        raise UnsupportedError(f"a disk whose partition {name} has no file system that can be read")
    return _Volume(region, source, tree)


def _objects(tree: Tree) -> Iterator[_Object]:
    """Yield the objects that are regular files with data, by their names."""
    start = tree.find(_OBJECTS)
    if start is None:
        return
    for directory in sorted(tree.links(start)):
        if not _DIRECTORY.fullmatch(directory.name):
            continue
        for link in sorted(tree.links(directory.number)):
            match = _FILE_OBJECT.fullmatch(link.name)
            node = tree.node(link.number) if match else None
            if match is None or node is None or not node.regular:
                continue
            extents = list(tree.extents(link.number))
            if extents:
                yield _Object(bytes.fromhex((directory.name + match[1]).decode()), node, extents)


def _mappings(extents: Iterable[FileExtent], name: bytes) -> Iterator[Mapping]:
    for extent in extents:
        yield Mapping(*extent, name)


def _equal(boot: _Volume, one: Node, root: _Volume, other: Node) -> bool:
    ours, theirs = content(boot.tree, boot.source, one), content(root.tree, root.source, other)
    return all(
        ours.read(at, min(CHUNK, one.size - at)) == theirs.read(at, min(CHUNK, one.size - at))
        for at in range(0, one.size, CHUNK)
    )


def _canonical(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Order by place and cut off what overlaps, as extents that objects share do."""
    result: list[Mapping] = []
    end = 0
    for item in sorted(mappings, key=lambda item: (item.physical, -item.length, item.object)):
        if item.end <= end:
            continue
        cut = max(0, end - item.physical)
        result.append(Mapping(item.logical + cut, item.physical + cut, item.length - cut, item.object))
        end = item.end
    return result
