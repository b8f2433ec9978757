"""The files of an XFS partition during a replay."""

from __future__ import annotations

from functools import cached_property

from rehydrator.edits.replay import Replay
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.inode import Inode, Mapping
from rehydrator.fs.xfs.xfs import Xfs


class XfsFiles:
    """Reads files as they are now, and writes their content into the blocks that they have by then."""

    def __init__(self, replay: Replay, partition: str) -> None:
        self._replay = replay
        self._partition = partition

    @cached_property
    def _now(self) -> Xfs:
        return Xfs(self._replay.now(self._partition))

    def read_file(self, number: int, limit: int) -> bytes:
        """Return the content of a file as it is now; a larger one than ``limit`` bytes is store damage."""
        inode = self._inode(number)
        if inode.size > limit:
            raise StoreDamagedError(f"inode {number} is too large", expected=limit, actual=inode.size)
        return self._now.read_file(inode)

    def blocks(self, number: int) -> bytes:
        """Return what the blocks of a file hold, also behind its end."""
        return held_blocks(self._now, self._inode(number))

    def put_content(self, number: int, content: bytes) -> None:
        """Give a file other content in the blocks it has now, padded with zeros; its size is the inode's business."""
        inode = self._inode(number)
        if inode.size != len(content):
            raise StoreDamagedError(f"inode {number} has another size", expected=inode.size, actual=len(content))
        shift = self._now.geometry.block_log
        for mapping in written(self._now, inode):
            part = content[mapping.start_offset << shift : mapping.start_offset + mapping.blocks << shift]
            if part:
                at = self._now.geometry.fsblock_byte(mapping.start_block)
                self._replay.write(self._partition, at, part.ljust(-(-len(part) >> shift << shift), b"\0"))

    def _inode(self, number: int) -> Inode:
        inode = self._now.inode(number) if number >= 0 else None
        if inode is None or not inode.is_file:
            raise StoreDamagedError("an edit names a file that does not exist", path=self._partition, actual=number)
        return inode


def written(xfs: Xfs, inode: Inode) -> list[Mapping]:
    """Return the extents of a file that hold data."""
    return [mapping for mapping in xfs.mappings(inode) if not mapping.unwritten]


def held_blocks(xfs: Xfs, inode: Inode) -> bytes:
    """Return what the blocks of a file hold up to its last one, also behind its end there."""
    shift, data = xfs.geometry.block_log, b""
    for mapping in written(xfs, inode):
        blocks = min(mapping.blocks, (-(-inode.size >> shift)) - mapping.start_offset)
        if blocks > 0:
            data += xfs.reader.read(xfs.geometry.fsblock_byte(mapping.start_block), blocks << shift)
    return data
