"""Cutting segments into single structures: inodes, btree blocks, directory blocks."""

from __future__ import annotations

from rehydrator.fs.xfs.btree import KINDS
from rehydrator.fs.xfs.geometry import Geometry
from rehydrator.fs.xfs.segments import Role, Segment

_WHOLE_BLOCKS = frozenset({*KINDS, Role.ATTRIBUTES, Role.QUOTA})


def unit_size(role: Role, geometry: Geometry) -> int:
    """Bytes of one structure of a segment, 0 where the segment as a whole is one."""
    if role is Role.INODES:
        return geometry.inode_size
    if role is Role.DIRECTORY:
        return geometry.directory_block_size
    return geometry.block_size if role in _WHOLE_BLOCKS else 0


def unit_at(segment: Segment, offset: int, geometry: Geometry) -> Segment:
    """Return the structure that byte ``offset`` of the file system belongs to; inodes get their own number."""
    size = unit_size(segment.role, geometry)
    if not size:
        return segment
    # A segment may begin in the middle of a structure: a directory block in two extents, or a contested one.
    within = segment.offset if segment.role in {Role.DIRECTORY, Role.INODES} else 0
    index = (offset - segment.start + within % size) // size
    start = segment.start - within % size + index * size
    begin, end = max(start, segment.start), min(start + size, segment.end)
    number = segment.number
    if segment.role is Role.INODES:
        number += (within + offset - segment.start) // size
    return Segment(begin, end, segment.role, number, segment.offset + begin - segment.start, segment.shared)
