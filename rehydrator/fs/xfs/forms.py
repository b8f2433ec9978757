"""Forms: how the content of each kind of XFS structure is laid out, for changing it field by field.

Every structure of version 5 begins with a magic number, so its bytes alone say what it is. A form has header fields,
arrays of rows, and for some kinds entries, which :mod:`rehydrator.edits.xfs_change` knows. What the layout depends on
(levels, counts) is read from the structure itself, once its header is set.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from rehydrator.binary import FieldSpan, Structure
from rehydrator.fs.xfs import c_xfs as c
from rehydrator.fs.xfs import c_xfs_da as da
from rehydrator.fs.xfs.btree import KINDS, BtreeKind, fork_max_records
from rehydrator.fs.xfs.checksums import Seal
from rehydrator.fs.xfs.inode import CORE_SIZE, Inode, parse_inode

_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_PAIR, _SHORT_PAIR, _LONG_PAIR = struct.Struct(">II"), struct.Struct(">HH"), struct.Struct(">QQ")
_ATTRIBUTE_ENTRY = struct.Struct(">IHBB")
_BEST_FREE = 3
_FREEMAP = 3
_DA_MAGIC = da.XfsDa3Blkinfo.offset_of("magic")
_BTREE_ROWS = {
    "bnobt": _PAIR,
    "cntbt": _PAIR,
    "inobt": struct.Struct(">IHBBQ"),
    "finobt": struct.Struct(">IHBBQ"),
    "rmapbt": struct.Struct(">IIQQ"),
    "refcountbt": struct.Struct(">III"),
    "bmbt": _LONG_PAIR,
}
_LEVEL = c.XfsBtreeShort.offset_of("bb_level")
INODE = "inode"
DIRECTORY_BLOCK, DIRECTORY_DATA = "directory block", "directory data"
ATTRIBUTE_LEAF = "attribute leaf"
SYMLINK = "symlink target"


class Array(NamedTuple):
    """``length`` rows of ``codec`` from byte ``offset`` on."""

    name: str
    offset: int
    codec: struct.Struct
    length: int
    mapping: bool = False  # rows are packed extents (xfs_bmbt_rec)


class Form(msgspec.Struct, frozen=True):
    """A kind of structure: its header (offsets below 0 count from the end), its checksum, and what a new one has in it.

    ``arrays`` says which arrays a structure's bytes have by its header. ``own`` are the fields of the header that hold
    the file system's UUID, and the structure's own place in basic blocks, where there are such.
    """

    name: str
    header: tuple[FieldSpan, ...]
    seal: Seal
    magic: tuple[str, int]
    arrays: Callable[[bytes], tuple[Array, ...]]
    uuid: str = ""
    place: str = ""


def form_of(data: bytes) -> Form | None:
    """Return the form of a structure by its magic number; None for anything else."""
    if len(data) < c.XfsBtreeShort.SIZE:
        return None
    return (
        _BY_MAGIC.get(_U32.unpack_from(data)[0])
        or _BY_DA_MAGIC.get(_U16.unpack_from(data, _DA_MAGIC)[0])
        or (inode_form(data) if _U16.unpack_from(data)[0] == c.XFS_DINODE_MAGIC else None)
    )


def form_named(name: str) -> Form | None:
    """Return a form by its name, as new structures have it in a manifest."""
    return _BY_NAME.get(name)


def inode_form(data: bytes) -> Form:
    """Return the form of an inode: where its extent counters are depends on a flag."""
    flags = _U64.unpack_from(data, c.XfsDinode.offset_of("di_flags2"))[0]
    return _INODE_NREXT64 if flags & c.Diflag2.NREXT64 else _INODE


def _up(name: str, offset: int, codec: struct.Struct, count: int) -> Array:
    return Array(name, offset, codec, max(count, 0))


def _none(_: bytes) -> tuple[Array, ...]:
    return ()


def _chain(*parts: type[Structure], without: str = "") -> tuple[FieldSpan, ...]:
    spans: list[FieldSpan] = []
    at = 0
    for part in parts:
        spans += (FieldSpan(f.name, f.offset + at, f.size, f.code) for f in part.FIELDS if f.name != without)
        at += part.SIZE
    return tuple(spans)


# -- allocation groups


def _agi_arrays(_: bytes) -> tuple[Array, ...]:
    return (_up("agi_unlinked", c.XfsAgi.offset_of("agi_unlinked"), _U32, c.XFS_AGI_UNLINKED_BUCKETS),)


def _agfl_arrays(data: bytes) -> tuple[Array, ...]:
    return (_up("agfl_bno", c.XfsAgfl.SIZE, _U32, (len(data) - c.XfsAgfl.SIZE) // _U32.size),)


def _btree_arrays(kind: BtreeKind) -> Callable[[bytes], tuple[Array, ...]]:
    rows = _BTREE_ROWS[kind.name]
    key = struct.Struct(f">{kind.key_size // 4}I") if not kind.long else _U64
    pointer = _U64 if kind.long else _U32

    @lru_cache(maxsize=8)
    def arrays(size: int, level: int) -> tuple[Array, ...]:
        most = kind.max_records(size, level)
        if not level:
            array = _up("recs", kind.header_size, rows, most)
            return (array._replace(mapping=kind.long),)
        return (
            _up("keys", kind.header_size, key, most),
            _up("ptrs", kind.pointers_offset(size, level), pointer, most),
        )

    return lambda data: arrays(len(data), min(_U16.unpack_from(data, _LEVEL)[0], 1))


# -- directories and attributes


def _best_free(_: bytes) -> tuple[Array, ...]:
    offset = da.XfsDir3BlkHdr.SIZE + da.XfsDir3DataTail.offset_of("best_free")
    return (_up("best_free", offset, _SHORT_PAIR, _BEST_FREE),)


def _directory_block_arrays(data: bytes) -> tuple[Array, ...]:
    tail = len(data) - da.XfsDir2BlockTail.SIZE
    most = (tail - da.DATA_ENTRIES) // _PAIR.size
    count = min(_U32.unpack_from(data, tail)[0], most)
    return (
        *_best_free(data),
        _up("leaf", tail - count * _PAIR.size, _PAIR, count),
    )


def _leaf1_arrays(data: bytes) -> tuple[Array, ...]:
    start, tail = da.XfsDa3Blkinfo.SIZE + da.XfsDir3LeafHdr.SIZE, len(data) - _U32.size
    bests = min(_U32.unpack_from(data, tail)[0], (tail - start) // _U16.size)
    border = tail - bests * _U16.size
    return (
        _up("ents", start, _PAIR, (border - start) // _PAIR.size),
        _up("bests", border, _U16, bests),
    )


def _leafn_arrays(data: bytes) -> tuple[Array, ...]:
    start = da.XfsDa3Blkinfo.SIZE + da.XfsDir3LeafHdr.SIZE
    return (_up("ents", start, _PAIR, (len(data) - start) // _PAIR.size),)


def _node_arrays(data: bytes) -> tuple[Array, ...]:
    start = da.XfsDa3Blkinfo.SIZE + da.XfsDa3NodeHdr.SIZE
    return (_up("btree", start, _PAIR, (len(data) - start) // _PAIR.size),)


def _free_arrays(data: bytes) -> tuple[Array, ...]:
    start = da.XfsDir3BlkHdr.SIZE + da.XfsDir3FreeTail.SIZE
    return (_up("bests", start, _U16, (len(data) - start) // _U16.size),)


def _attribute_arrays(data: bytes) -> tuple[Array, ...]:
    header = da.XfsDa3Blkinfo.SIZE
    start = header + da.XfsAttr3LeafHdr.SIZE
    count = min(_U16.unpack_from(data, header)[0], (len(data) - start) // _ATTRIBUTE_ENTRY.size)
    return (
        _up("freemap", header + da.XfsAttr3LeafHdr.offset_of("freemap"), _SHORT_PAIR, _FREEMAP),
        _up("entries", start, _ATTRIBUTE_ENTRY, count),
    )


# -- inodes


def _inode_arrays(data: bytes) -> tuple[Array, ...]:
    inode = parse_inode(0, data, 0, len(data))
    if inode is None:
        return ()
    arrays = _fork_arrays("", CORE_SIZE, inode, inode.format, len(inode.data_fork), inode.extents)
    if inode.attribute_fork:
        start = CORE_SIZE + len(inode.data_fork)
        size, count = len(inode.attribute_fork), inode.attribute_extents
        arrays += _fork_arrays("attr ", start, inode, inode.attribute_format, size, count)
    return arrays


def _fork_arrays(prefix: str, start: int, inode: Inode, form: int, size: int, count: int) -> tuple[Array, ...]:
    if form == c.DinodeFormat.EXTENTS:
        most = size // _LONG_PAIR.size
        return (Array(f"{prefix}bmx", start, _LONG_PAIR, min(count, most), mapping=True),)
    if form == c.DinodeFormat.BTREE:
        most = fork_max_records(size)
        keys = start + _SHORT_PAIR.size
        return (
            _up(f"{prefix}bmdr", start, _SHORT_PAIR, 1),
            _up(f"{prefix}keys", keys, _U64, most),
            _up(f"{prefix}ptrs", keys + most * _U64.size, _U64, most),
        )
    if form == c.DinodeFormat.DEV and (stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode)):
        return (_up("di_rdev", start, _U32, 1),)
    return ()


# -- the table


def _btree_form(kind: BtreeKind) -> Form:
    header: type[Structure] = c.XfsBtreeLong if kind.long else c.XfsBtreeShort
    seal = Seal.BTREE_LONG if kind.long else Seal.BTREE_SHORT
    return Form(kind.name, header.FIELDS, seal, ("bb_magic", kind.magic), _btree_arrays(kind), "bb_uuid", "bb_blkno")


def _from_end(part: type[Structure]) -> tuple[FieldSpan, ...]:
    return tuple(FieldSpan(span.name, span.offset - part.SIZE, span.size, span.code) for span in part.FIELDS)


def _da_form(name: str, magic: int, header: type[Structure], arrays: Callable[[bytes], tuple[Array, ...]]) -> Form:
    spans = _chain(da.XfsDa3Blkinfo, header, without="freemap")
    if magic == da.XFS_DIR3_LEAF1_MAGIC:
        spans += _from_end(da.XfsDir2LeafTail)
    return Form(name, spans, Seal.DA_BLOCK, ("magic", magic), arrays, "uuid", "blkno")


def _directory_form(name: str, magic: int, tail: type[Structure], arrays: Callable[[bytes], tuple[Array, ...]]) -> Form:
    spans = _chain(da.XfsDir3BlkHdr, tail, without="best_free")
    if magic == da.XFS_DIR3_BLOCK_MAGIC:
        spans += _from_end(da.XfsDir2BlockTail)
    return Form(name, spans, Seal.DIRECTORY_DATA, ("magic", magic), arrays, "uuid", "blkno")


def _inode_forms() -> tuple[Form, Form]:
    magic = ("di_magic", c.XFS_DINODE_MAGIC)
    plain, large = (
        Form(INODE, kind.FIELDS, Seal.INODE, magic, _inode_arrays, "di_uuid")
        for kind in (c.XfsDinode, c.XfsDinodeNrext64)
    )
    return plain, large


_INODE, _INODE_NREXT64 = _inode_forms()
_DA_FORMS = (
    _da_form("directory leaf", da.XFS_DIR3_LEAF1_MAGIC, da.XfsDir3LeafHdr, _leaf1_arrays),
    _da_form("directory leaf of several", da.XFS_DIR3_LEAFN_MAGIC, da.XfsDir3LeafHdr, _leafn_arrays),
    _da_form("node", da.XFS_DA3_NODE_MAGIC, da.XfsDa3NodeHdr, _node_arrays),
    _da_form(ATTRIBUTE_LEAF, da.XFS_ATTR3_LEAF_MAGIC, da.XfsAttr3LeafHdr, _attribute_arrays),
)
_FORMS = (
    Form("superblock", c.XfsDsb.FIELDS, Seal.SUPERBLOCK, ("sb_magicnum", c.XFS_SB_MAGIC), _none, "sb_uuid"),
    Form("AGF", c.XfsAgf.FIELDS, Seal.AGF, ("agf_magicnum", c.XFS_AGF_MAGIC), _none, "agf_uuid"),
    Form("AGI", _chain(c.XfsAgi, without="agi_unlinked"), Seal.AGI, ("agi_magicnum", c.XFS_AGI_MAGIC), _agi_arrays,
         "agi_uuid"),
    Form("AGFL", c.XfsAgfl.FIELDS, Seal.AGFL, ("agfl_magicnum", c.XFS_AGFL_MAGIC), _agfl_arrays, "agfl_uuid"),
    *(_btree_form(kind) for kind in KINDS.values()),
    _directory_form(DIRECTORY_BLOCK, da.XFS_DIR3_BLOCK_MAGIC, da.XfsDir3DataTail, _directory_block_arrays),
    _directory_form(DIRECTORY_DATA, da.XFS_DIR3_DATA_MAGIC, da.XfsDir3DataTail, _best_free),
    _directory_form("directory free index", da.XFS_DIR3_FREE_MAGIC, da.XfsDir3FreeTail, _free_arrays),
    Form("remote attribute value", da.XfsAttr3RmtHdr.FIELDS, Seal.ATTRIBUTE_REMOTE,
         ("rm_magic", da.XFS_ATTR3_RMT_MAGIC), _none, "rm_uuid", "rm_blkno"),
    Form(SYMLINK, c.XfsDsymlinkHdr.FIELDS, Seal.SYMLINK, ("sl_magic", c.XFS_SYMLINK_MAGIC), _none, "sl_uuid",
         "sl_blkno"),
)  # fmt: skip
_BY_MAGIC = {form.magic[1]: form for form in _FORMS}
_BY_DA_MAGIC = {form.magic[1]: form for form in _DA_FORMS}
_BY_NAME = {form.name: form for form in (*_FORMS, *_DA_FORMS, _INODE_NREXT64)}
