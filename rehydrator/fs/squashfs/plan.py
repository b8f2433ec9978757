"""Where the content of a squashfs file system's blocks lies among the content of its files.

The inodes alone say it. A layer's disk holds each file once, from a multiple of 4096 bytes on, as other file systems
do: there its content is found again, whatever of it shares a block in here.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.disk.extents import BLOCK, Extent
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.squashfs.c_squashfs import (
    BLOCK_SIZE_MASK,
    BLOCK_UNCOMPRESSED,
    BLOCK_WORD,
    INVALID_FRAG,
    XATTR_SIZE,
    BaseInode,
    DevInode,
    DirIndex,
    DirInode,
    FragmentEntry,
    InodeType,
    IpcInode,
    LdirInode,
    LregInode,
    RegInode,
    SymlinkInode,
)

_MAX_CONTENT = 1 << 62  # bytes of all files together: beyond any disk, and sums stay within 64 bits
# Blocks, and ends of files in fragments: each takes up to half a KiB of memory here. 128 GiB in blocks of usual size.
MAX_PIECES = 1 << 20
_PLAIN_SIZES = {
    InodeType.DIR: DirInode.SIZE,
    InodeType.BLKDEV: DevInode.SIZE,
    InodeType.CHRDEV: DevInode.SIZE,
    InodeType.FIFO: IpcInode.SIZE,
    InodeType.SOCKET: IpcInode.SIZE,
    InodeType.LBLKDEV: DevInode.SIZE + XATTR_SIZE,
    InodeType.LCHRDEV: DevInode.SIZE + XATTR_SIZE,
    InodeType.LFIFO: IpcInode.SIZE + XATTR_SIZE,
    InodeType.LSOCKET: IpcInode.SIZE + XATTR_SIZE,
}


def align(size: int) -> int:
    """Round up to a multiple of 4096 bytes."""
    return -(-size // BLOCK) * BLOCK


class Piece(msgspec.Struct, frozen=True):
    """``length`` bytes at ``offset`` of a block that lie at ``place`` of the content."""

    offset: int
    length: int
    place: int


class Block(msgspec.Struct, frozen=True):
    """A data block, or one with fragments: from byte ``start`` of the file system on, made of ``pieces``."""

    start: int
    word: int
    pieces: list[Piece]

    @property
    def size(self) -> int:
        """Size in the file system, in bytes."""
        return self.word & BLOCK_SIZE_MASK

    @property
    def packed(self) -> bool:
        """Whether it is compressed."""
        return not self.word & BLOCK_UNCOMPRESSED

    @property
    def end(self) -> int:
        """First byte after the block."""
        return self.start + self.size

    @property
    def length(self) -> int:
        """Size before compression, in bytes."""
        return max(piece.offset + piece.length for piece in self.pieces)


class PlacedFile(msgspec.Struct, frozen=True):
    """The content of a file, ``size`` bytes at ``place``; files of equal content that share blocks have one."""

    inode_number: int
    place: int
    size: int


class Plan(msgspec.Struct, frozen=True):
    """``blocks`` in file order, ``gaps`` between them, and the content of ``files``, which is ``size`` bytes."""

    blocks: list[Block]
    gaps: list[Extent]
    files: list[PlacedFile]
    size: int


class FileInode(msgspec.Struct, frozen=True):
    """What the inodes of both kinds of regular files say; ``words`` are those of its blocks, 0 for a hole."""

    inode_number: int
    start_block: int
    fragment: int
    offset: int
    file_size: int
    words: bytes


class Inode(msgspec.Struct, frozen=True):
    """An inode at byte ``offset`` of the table; ``file`` is what one of a regular file says."""

    offset: int
    base: BaseInode
    file: FileInode | None


def inodes(table: bytes, count: int, block_size: int) -> Iterator[Inode]:
    """Go through ``count`` inodes; raises CorruptError for a damaged table."""
    at = 0
    for _ in range(count):
        base = BaseInode.parse(table, at)
        start, file = at, None
        match base.inode_type:
            case InodeType.REG | InodeType.LREG:
                file = _file_inode(table, at, base.inode_type, block_size)
                head = RegInode.SIZE if base.inode_type == InodeType.REG else LregInode.SIZE
                at += head + len(file.words)
            case InodeType.LDIR:
                at = _after_index(table, at)
            case InodeType.SYMLINK | InodeType.LSYMLINK:
                at += SymlinkInode.SIZE + SymlinkInode.parse(table, at).symlink_size
                at += XATTR_SIZE if base.inode_type == InodeType.LSYMLINK else 0
            case kind if kind in _PLAIN_SIZES:
                at += _PLAIN_SIZES[InodeType(kind)]
            case kind:
                raise CorruptError("inode of an unknown type", expected="1 to 14", actual=kind)
        if at > len(table):
            raise CorruptError("the inode table ends within an inode", expected=f"{at} bytes", actual=len(table))
        yield Inode(start, base, file)


def _file_inode(table: bytes, at: int, kind: int, block_size: int) -> FileInode:
    inode: RegInode | LregInode
    inode = RegInode.parse(table, at) if kind == InodeType.REG else LregInode.parse(table, at)
    whole, tail = divmod(inode.file_size, block_size)
    count = whole + (tail > 0 and inode.fragment == INVALID_FRAG)
    first = at + inode.SIZE
    if first + BLOCK_WORD.size * count > len(table):
        raise CorruptError(
            "the inode table ends within a list of blocks", expected=f"{count} blocks", actual=f"{len(table)} bytes"
        )
    words = table[first : first + BLOCK_WORD.size * count]
    return FileInode(inode.inode_number, inode.start_block, inode.fragment, inode.offset, inode.file_size, words)


def _after_index(table: bytes, at: int) -> int:
    inode = LdirInode.parse(table, at)
    at += LdirInode.SIZE
    for _ in range(inode.i_count):
        at += DirIndex.SIZE + DirIndex.parse(table, at).size + 1
    return at


class _Planner:
    """Gives each file's content its place, in the order of the inodes."""

    def __init__(self, fragments: int, block_size: int) -> None:
        self.blocks: dict[int, Block] = {}
        self.tails: defaultdict[int, list[Piece]] = defaultdict(list)  # by number of the fragment
        self.files: list[PlacedFile] = []
        self.size = 0
        self._pieces = 0
        self._fragments = fragments
        self._block_size = block_size
        self._placed: set[tuple[int, int, int, int, bytes]] = set()

    def add(self, inode: FileInode) -> None:
        tail = inode.file_size % self._block_size if inode.fragment != INVALID_FRAG else 0
        key = (inode.start_block, inode.fragment, inode.offset, inode.file_size, inode.words)
        if key in self._placed or not (tail or any(inode.words)):
            return
        self._placed.add(key)
        self.files.append(PlacedFile(inode.inode_number, self.size, inode.file_size))
        start = inode.start_block
        for number, (word,) in enumerate(BLOCK_WORD.iter_unpack(inode.words)):
            offset = number * self._block_size
            length = min(self._block_size, inode.file_size - offset)
            if word & BLOCK_SIZE_MASK:
                self._count(word & BLOCK_SIZE_MASK, start)
                block = Block(start, word, [Piece(0, length, self.size + offset)])
                known = self.blocks.setdefault(start, block)
                if (known.word, known.length) != (word, length):
                    raise CorruptError(
                        "two files have different blocks at one place",
                        offset=start,
                        expected=f"{known.length} bytes in {known.word:#x}",
                        actual=f"{length} bytes in {word:#x}",
                    )
                start = block.end
        if tail:
            if inode.fragment >= self._fragments:
                raise CorruptError(
                    "a file refers to no fragment", expected=f"below {self._fragments}", actual=inode.fragment
                )
            if inode.offset + tail > self._block_size:
                raise CorruptError(
                    "a fragment does not fit into its block", expected=self._block_size, actual=inode.offset + tail
                )
            self._count(tail, inode.start_block)
            place = self.size + inode.file_size - tail
            self.tails[inode.fragment].append(Piece(inode.offset, tail, place))
        self.size += align(inode.file_size)
        if self.size > _MAX_CONTENT:
            raise CorruptError("files of impossible sizes", expected=f"up to {_MAX_CONTENT}", actual=self.size)

    def _count(self, size: int, place: int) -> None:
        """Count a piece of ``size`` bytes; raises CorruptError for one that is impossible, and for too many."""
        self._pieces += 1
        if size > self._block_size or self._pieces > MAX_PIECES:
            raise CorruptError(
                "a block of an impossible size, or too many of them",
                offset=place,
                expected=f"up to {MAX_PIECES} of {self._block_size} bytes",
                actual=f"number {self._pieces} of {size} bytes",
            )


def make_plan(files: Iterable[FileInode], fragments: bytes, data: Extent, block_size: int) -> Plan:
    """Tell where the content of each block lies; ``data`` is the range of the file system that blocks may have.

    Raises CorruptError for impossible tables and UnsupportedError for a block with bytes that no file has.
    """
    count = -(-len(fragments) // FragmentEntry.SIZE)
    planner = _Planner(count, block_size)
    for file in files:
        planner.add(file)
    for number in range(count):
        entry = FragmentEntry.parse(fragments, number * FragmentEntry.SIZE)
        pieces = planner.tails[number]
        pieces.sort(key=lambda piece: (piece.offset, piece.length))
        _check_complete(pieces, entry.start_block)
        block = Block(entry.start_block, entry.size, pieces)
        if not 0 < block.size <= block_size or planner.blocks.setdefault(block.start, block) is not block:
            raise CorruptError(
                "a fragment is empty or too large, or lies where another block does",
                offset=block.start,
                expected=f"up to {block_size} bytes",
                actual=block.size,
            )
    blocks = sorted(planner.blocks.values(), key=lambda block: block.start)
    return Plan(blocks, list(_gaps(blocks, data)), planner.files, planner.size)


def _check_complete(pieces: list[Piece], place: int) -> None:
    end = 0
    for piece in pieces:
        if piece.offset > end:
            break
        end = max(end, piece.offset + piece.length)
    else:
        if end:
            return
    raise UnsupportedError(
        "a block of fragments has bytes that no file has",
        offset=place,
        expected="parts of files",
        actual=f"none from byte {end} on",
    )


def _gaps(blocks: list[Block], data: Extent) -> Iterator[Extent]:
    """Yield the ranges of ``data`` that no block has; raises CorruptError for blocks that overlap or lie outside."""
    ends = [data.offset, *(block.end for block in blocks)]
    starts = [*(block.start for block in blocks), data.end]
    for end, start in zip(ends, starts, strict=True):
        if start < end:
            raise CorruptError(
                "blocks overlap, or lie outside of the data",
                offset=start,
                expected=f"{end:#x} or more",
                actual=f"{start:#x}",
            )
        if start > end:
            yield Extent(end, start - end)


def pieces_in_order(plan: Plan) -> list[tuple[Piece, int]]:
    """Return every piece with the number of its block, in the order of the content."""
    pieces = ((piece, number) for number, block in enumerate(plan.blocks) for piece in block.pieces)
    return sorted(pieces, key=lambda item: item[0].place)


def total(extents: list[Extent]) -> int:
    """Return the sum of lengths."""
    return sum(itertools.starmap(lambda _, length: length, extents))
