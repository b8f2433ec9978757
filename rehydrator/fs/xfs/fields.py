"""Fields of structures whose layout depends on their content: inodes, btree, directory and attribute blocks."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from functools import lru_cache

from rehydrator.binary import FieldSpan, Structure
from rehydrator.fs.xfs.btree import BtreeKind, fork_max_records
from rehydrator.fs.xfs.c_xfs import (
    XFS_AGI_UNLINKED_BUCKETS,
    Diflag2,
    DinodeFormat,
    XfsAgfl,
    XfsAgi,
    XfsBmbtRec,
    XfsBmdrBlock,
    XfsBtreeLong,
    XfsBtreeShort,
    XfsDinode,
    XfsDinodeNrext64,
    XfsDqblk,
)
from rehydrator.fs.xfs.c_xfs_da import (
    XFS_ATTR3_LEAF_MAGIC,
    XFS_ATTR3_RMT_MAGIC,
    XFS_DA3_NODE_MAGIC,
    XFS_DIR3_BLOCK_MAGIC,
    XFS_DIR3_DATA_MAGIC,
    XFS_DIR3_FREE_MAGIC,
    XFS_DIR3_LEAF1_MAGIC,
    XFS_DIR3_LEAFN_MAGIC,
    XfsAttr3LeafHdr,
    XfsAttr3RmtHdr,
    XfsAttrLeafEntry,
    XfsDa3Blkinfo,
    XfsDa3NodeHdr,
    XfsDir2BlockTail,
    XfsDir2LeafEntry,
    XfsDir3BlkHdr,
    XfsDir3DataTail,
    XfsDir3FreeTail,
    XfsDir3LeafHdr,
)
from rehydrator.fs.xfs.directory import block_entries, entries_end, short_form
from rehydrator.fs.xfs.inode import CORE_SIZE, Inode

Fields = tuple[FieldSpan, ...]
_HEAD = struct.Struct(">IHH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_DA_MAGIC = XfsDa3Blkinfo.offset_of("magic")
_NODE_ENTRY = 8  # xfs_da_node_entry: hashval, before
_BEST = 2  # xfs_dir3_free.bests[]
_SF_ATTRIBUTES = 4  # xfs_attr_sf_hdr
_SF_ATTRIBUTE = 3  # xfs_attr_sf_entry: namelen, valuelen, flags


def _shift(fields: Fields, offset: int) -> Fields:
    return tuple(FieldSpan(span.name, span.offset + offset, span.size) for span in fields)


def _array(name: str, offset: int, size: int, count: int) -> Iterator[FieldSpan]:
    return (FieldSpan(f"{name}[{index}]", offset + index * size, size) for index in range(count))


def _chain(*parts: type[Structure]) -> Fields:
    fields: Fields = ()
    at = 0
    for part in parts:
        fields += _shift(part.FIELDS, at)
        at += part.SIZE
    return fields


def _agi_fields() -> Fields:
    spans: list[FieldSpan] = []
    for span in XfsAgi.FIELDS:
        if span.name == "agi_unlinked":
            spans += _array(span.name, span.offset, _U32.size, XFS_AGI_UNLINKED_BUCKETS)
        else:
            spans.append(span)
    return tuple(spans)


AGI_FIELDS = _agi_fields()
NODE_FIELDS = _chain(XfsDa3Blkinfo, XfsDa3NodeHdr)
LEAF_FIELDS = _chain(XfsDa3Blkinfo, XfsDir3LeafHdr)
ATTRIBUTE_LEAF_FIELDS = _chain(XfsDa3Blkinfo, XfsAttr3LeafHdr)
DATA_FIELDS = _chain(XfsDir3BlkHdr, XfsDir3DataTail)
FREE_FIELDS = _chain(XfsDir3BlkHdr, XfsDir3FreeTail)


@lru_cache(maxsize=8)
def agfl_fields(sector_size: int) -> Fields:
    """Fields of the AGFL sector."""
    return (*XfsAgfl.FIELDS, *_array("agfl_bno", XfsAgfl.SIZE, 4, (sector_size - XfsAgfl.SIZE) // 4))


@lru_cache(maxsize=8)
def quota_fields(block_size: int) -> Fields:
    """Fields of a block of quotas."""
    count = block_size // XfsDqblk.SIZE
    return tuple(
        FieldSpan(f"dquot[{index}].{span.name}", index * XfsDqblk.SIZE + span.offset, span.size)
        for index in range(count)
        for span in XfsDqblk.FIELDS
    )


def btree_fields(kind: BtreeKind, block: bytes) -> Fields:
    """Fields of a btree block: the header, then records, or keys and pointers."""
    _, level, records = _HEAD.unpack_from(block)
    return _btree_fields(kind, len(block), min(level, 1), min(records, kind.max_records(len(block), level)))


@lru_cache(maxsize=512)
def _btree_fields(kind: BtreeKind, size: int, level: int, records: int) -> Fields:
    header: Fields = XfsBtreeLong.FIELDS if kind.long else XfsBtreeShort.FIELDS
    if not level:
        return (*header, *_array("recs", kind.header_size, kind.record_size, records))
    return (
        *header,
        *_array("keys", kind.header_size, kind.key_size, records),
        *_array("ptrs", kind.pointers_offset(size, level), kind.pointer_size, records),
    )


# -- inodes


def inode_fields(inode: Inode, ftype: bool) -> Fields:
    """Fields of an inode: its core, its data fork and its attribute fork."""
    core: Fields = XfsDinodeNrext64.FIELDS if inode.flags2 & Diflag2.NREXT64 else XfsDinode.FIELDS
    data = _data_fork(inode, ftype)
    fields = core + _shift(data, CORE_SIZE)
    if inode.attribute_fork:
        fields += _shift(_attribute_fork(inode), CORE_SIZE + len(inode.data_fork))
    return fields


def _data_fork(inode: Inode, ftype: bool) -> Fields:
    fork = inode.data_fork
    if inode.format == DinodeFormat.DEV:
        return (FieldSpan("di_rdev", 0, _U32.size),) if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode) else ()
    if inode.format != DinodeFormat.LOCAL:
        return _mapped_fork("", inode.format, len(fork), inode.extents)
    if inode.is_directory:
        return tuple(_short_form(fork, ftype))
    return (FieldSpan("symlink target", 0, min(inode.size, len(fork))),)


def _short_form(fork: bytes, ftype: bool) -> Iterator[FieldSpan]:
    number = 8 if fork[1:2] != b"\0" else 4
    yield FieldSpan("sf.count", 0, 1)
    yield FieldSpan("sf.i8count", 1, 1)
    yield FieldSpan("sf.parent", 2, number)
    for entry in short_form(fork, ftype)[1]:
        yield FieldSpan(_entry_name(entry.name), entry.offset, entry.length)


def _entry_name(name: bytes) -> str:
    return f"entry {name.decode('utf-8', 'backslashreplace')}"


def _attribute_fork(inode: Inode) -> Fields:
    fork = inode.attribute_fork
    if inode.attribute_format == DinodeFormat.LOCAL:
        return tuple(_short_attributes(fork))
    return _mapped_fork("attr ", inode.attribute_format, len(fork), inode.attribute_extents)


def _short_attributes(fork: bytes) -> Iterator[FieldSpan]:
    if len(fork) < _SF_ATTRIBUTES:
        return
    yield FieldSpan("attr sf.totsize", 0, 2)
    yield FieldSpan("attr sf.count", 2, 1)
    at = _SF_ATTRIBUTES
    for _ in range(fork[2]):
        if at + _SF_ATTRIBUTE > len(fork):
            return
        name_length, value_length = fork[at], fork[at + 1]
        end = at + _SF_ATTRIBUTE + name_length + value_length
        if end > len(fork):
            return
        name = fork[at + _SF_ATTRIBUTE : at + _SF_ATTRIBUTE + name_length].decode("utf-8", "backslashreplace")
        yield FieldSpan(f"attribute {name}", at, end - at)
        at = end


@lru_cache(maxsize=1024)
def _mapped_fork(prefix: str, form: int, size: int, extents: int) -> Fields:
    if form == DinodeFormat.EXTENTS:
        return tuple(_array(f"{prefix}bmx", 0, XfsBmbtRec.SIZE, min(extents, size // XfsBmbtRec.SIZE)))
    if form == DinodeFormat.BTREE and size > XfsBmdrBlock.SIZE:
        most = fork_max_records(size)
        return (
            *(FieldSpan(prefix + span.name, span.offset, span.size) for span in XfsBmdrBlock.FIELDS),
            *_array(f"{prefix}keys", XfsBmdrBlock.SIZE, 8, most),
            *_array(f"{prefix}ptrs", XfsBmdrBlock.SIZE + 8 * most, 8, most),
        )
    return ()


# -- directory and attribute blocks


def directory_fields(block: bytes, ftype: bool) -> tuple[str, Fields]:
    """Name and fields of a directory block of any kind; no name for one that is damaged."""
    magic = _U32.unpack_from(block)[0]
    if magic in {XFS_DIR3_BLOCK_MAGIC, XFS_DIR3_DATA_MAGIC}:
        return "directory data", (*DATA_FIELDS, *_data_block(block, ftype, magic))
    if magic == XFS_DIR3_FREE_MAGIC:
        at = XfsDir3BlkHdr.SIZE + XfsDir3FreeTail.SIZE
        return "directory free index", (*FREE_FIELDS, *_array("bests", at, _BEST, (len(block) - at) // _BEST))
    magic = _U16.unpack_from(block, _DA_MAGIC)[0]
    count = _U16.unpack_from(block, XfsDa3Blkinfo.SIZE)[0]
    if magic in {XFS_DIR3_LEAF1_MAGIC, XFS_DIR3_LEAFN_MAGIC}:
        return "directory leaf", _counted(LEAF_FIELDS, "ents", count, XfsDir2LeafEntry.SIZE, len(block))
    if magic == XFS_DA3_NODE_MAGIC:
        return "directory node", _counted(NODE_FIELDS, "btree", count, _NODE_ENTRY, len(block))
    return "", ()


@lru_cache(maxsize=64)
def _counted(header: Fields, name: str, count: int, size: int, length: int) -> Fields:
    start = header[-1].offset + header[-1].size
    return (*header, *_array(name, start, size, min(count, (length - start) // size)))


def _data_block(block: bytes, ftype: bool, magic: int) -> Iterator[FieldSpan]:
    for entry in block_entries(block, ftype):
        yield FieldSpan(_entry_name(entry.name), entry.offset, entry.length)
    if magic == XFS_DIR3_BLOCK_MAGIC:
        tail = len(block) - XfsDir2BlockTail.SIZE
        start = entries_end(block)
        yield from _array("leaf", start, XfsDir2LeafEntry.SIZE, (tail - start) // XfsDir2LeafEntry.SIZE)
        yield from _shift(XfsDir2BlockTail.FIELDS, tail)


def attribute_fields(block: bytes) -> tuple[str, Fields]:
    """Name and fields of a block of the attribute fork; no name for one that is damaged."""
    if _U32.unpack_from(block)[0] == XFS_ATTR3_RMT_MAGIC:
        return "remote attribute value", XfsAttr3RmtHdr.FIELDS
    magic = _U16.unpack_from(block, _DA_MAGIC)[0]
    count = _U16.unpack_from(block, XfsDa3Blkinfo.SIZE)[0]
    if magic == XFS_ATTR3_LEAF_MAGIC:
        fields = _counted(ATTRIBUTE_LEAF_FIELDS, "entries", count, XfsAttrLeafEntry.SIZE, len(block))
        return "attribute leaf", fields
    if magic == XFS_DA3_NODE_MAGIC:
        return "attribute node", _counted(NODE_FIELDS, "btree", count, _NODE_ENTRY, len(block))
    return "", ()
