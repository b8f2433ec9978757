"""Entries of XFS directories and attributes, short form and blocks, as manifests have them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.edits.fields import decode_text, encode_text
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.xfs.c_xfs import DinodeFormat, XfsDsymlinkHdr
from rehydrator.fs.xfs.c_xfs_da import (
    DATA_ENTRIES,
    XFS_ATTR_LOCAL,
    XFS_DIR2_DATA_ALIGN,
    XFS_DIR2_DATA_FREE_TAG,
    XfsAttr3LeafHdr,
    XfsAttrLeafEntry,
    XfsDa3Blkinfo,
)
from rehydrator.fs.xfs.directory import entries_end
from rehydrator.fs.xfs.forms import ATTRIBUTE_LEAF, DIRECTORY_BLOCK, DIRECTORY_DATA, INODE, SYMLINK, Form
from rehydrator.fs.xfs.inode import CORE_SIZE, Inode, parse_inode

_UNUSED = struct.Struct(">HH")
_TAG = struct.Struct(">H")
_ENTRY = struct.Struct(">QB")
_SF_OFFSET = struct.Struct(">H")
_SF_ATTRIBUTES = struct.Struct(">HBx")
_SF_ATTRIBUTE = struct.Struct("BBB")
_LOCAL_ATTRIBUTE = struct.Struct(">HB")
_LIMIT_32 = 1 << 32
_MAX_NAME = 255
_MAX_FTYPE = 8


class XfsEntry(msgspec.Struct, array_like=True, frozen=True):
    """A directory entry at byte ``at`` of its block; in the short form ``at`` is the entry's ``offset`` field."""

    at: int
    inode: int
    file_type: int
    name: str


class XfsUnused(msgspec.Struct, array_like=True, frozen=True):
    """Unused room of a directory block (``struct xfs_dir2_data_unused``)."""

    at: int
    length: int


class XfsAttribute(msgspec.Struct, array_like=True, frozen=True):
    """An extended attribute at byte ``at`` of its fork or block; ``flags`` say the namespace, in the short form."""

    at: int
    flags: int
    name: str
    value: str


# -- directories


def put(
    data: bytearray, form: Form, parent: int | None, entries: Iterable[XfsEntry], unused: Iterable[XfsUnused]
) -> None:
    """Write the entries of a directory block, or all of a directory inside of an inode."""
    if form.name in (DIRECTORY_BLOCK, DIRECTORY_DATA):
        for entry in entries:
            _put_entry(data, entry)
        for room in unused:
            _put_unused(data, room)
    elif parent is not None:
        _put_short(data, parent, list(entries))


def told(before: bytearray, after: bytes, form: Form) -> tuple[int | None, list[XfsEntry], list[XfsUnused]]:
    """Tell parent, entries and unused room of a directory where they differ."""
    if form.name in (DIRECTORY_BLOCK, DIRECTORY_DATA):
        work = bytearray(before)
        have = {item.at: item for item in _slots(bytes(work))}
        new = [item for item in _slots(after) if have.get(item.at) != item or _differs(work, after, item)]
        entries = [item for item in new if isinstance(item, XfsEntry)]
        rooms = [item for item in new if isinstance(item, XfsUnused)]
        put(work, form, None, entries, rooms)
        stale = [item for room in _rooms(after) for item in _stale(bytes(work), after, room)]
        return None, [*stale, *entries], rooms
    fork = _local_fork(after, form)
    if fork is None or not fork.is_directory or before[CORE_SIZE:] == after[CORE_SIZE:]:
        return None, [], []
    work = bytearray(before)
    parent, entries = _short(fork.data_fork)
    return parent, entries, []


def _length(name: bytes) -> int:
    fixed = _ENTRY.size + 1 + _TAG.size
    return -(-(fixed + len(name)) // XFS_DIR2_DATA_ALIGN) * XFS_DIR2_DATA_ALIGN


def _put_entry(data: bytearray, entry: XfsEntry) -> None:
    name = decode_text(entry.name)
    end = entry.at + _length(name)
    if entry.at < DATA_ENTRIES or end > len(data):
        raise ValueError
    _ENTRY.pack_into(data, entry.at, entry.inode, len(name))
    start = entry.at + _ENTRY.size
    data[start : start + len(name) + 1] = name + bytes([entry.file_type])
    _TAG.pack_into(data, end - _TAG.size, entry.at)


def _put_unused(data: bytearray, room: XfsUnused) -> None:
    if room.at < DATA_ENTRIES or room.length < XFS_DIR2_DATA_ALIGN or room.at + room.length > len(data):
        raise ValueError
    _UNUSED.pack_into(data, room.at, XFS_DIR2_DATA_FREE_TAG, room.length)
    _TAG.pack_into(data, room.at + room.length - _TAG.size, room.at)


def _differs(before: bytearray, after: bytes, item: XfsEntry | XfsUnused) -> bool:
    """Tell whether the bytes that an item writes are others in ``before``: its tag may be all that is."""
    made = bytearray(before)
    if isinstance(item, XfsEntry):
        _put_entry(made, item)
    else:
        _put_unused(made, item)
    return made != before


def _slots(block: bytes) -> Iterator[XfsEntry | XfsUnused]:
    """Yield entries and unused room in order, as far as they make sense."""
    at, end = DATA_ENTRIES, entries_end(block)
    while at + XFS_DIR2_DATA_ALIGN <= end:
        tag, length = _UNUSED.unpack_from(block, at)
        if tag == XFS_DIR2_DATA_FREE_TAG:
            if length < XFS_DIR2_DATA_ALIGN or length % XFS_DIR2_DATA_ALIGN or at + length > end:
                return
            yield XfsUnused(at, length)
            at += length
            continue
        entry = _entry(block, at, end)
        if entry is None:
            return
        yield entry
        at += _length(decode_text(entry.name))


def _entry(block: bytes, at: int, end: int) -> XfsEntry | None:
    if at + _ENTRY.size > end:
        return None
    inode, size = _ENTRY.unpack_from(block, at)
    name = block[at + _ENTRY.size : at + _ENTRY.size + size]
    if not size or at + _length(name) > end:
        return None
    return XfsEntry(at, inode, block[at + _ENTRY.size + size], encode_text(name))


def _rooms(block: bytes) -> Iterator[XfsUnused]:
    return (item for item in _slots(block) if isinstance(item, XfsUnused))


def _stale(before: bytes, after: bytes, room: XfsUnused) -> Iterator[XfsEntry]:
    """Yield what is left of entries in unused room, where it is not there already."""
    at, end = room.at, room.at + room.length
    while at < end and before[at:end] != after[at:end]:
        entry = _entry(after, at, end)
        if entry is not None and entry.file_type <= _MAX_FTYPE:
            stop = at + _length(decode_text(entry.name))
            tag = _TAG.unpack_from(after, stop - _TAG.size)[0]
            if tag == at or stop == end:
                if at == room.at:
                    entry = msgspec.structs.replace(entry, inode=entry.inode % _LIMIT_32)
                if before[at:stop] != after[at:stop]:
                    yield entry
                at = stop
                continue
        at += XFS_DIR2_DATA_ALIGN


def _local_fork(data: bytes, form: Form) -> Inode | None:
    inode = parse_inode(0, data, 0, len(data)) if form.name == INODE else None
    return inode if inode is not None and inode.format == DinodeFormat.LOCAL else None


def _short(fork: bytes) -> tuple[int | None, list[XfsEntry]]:
    count, wide = fork[0], fork[1]
    size = 8 if wide else 4
    parent = int.from_bytes(fork[2 : 2 + size], "big")
    at = 2 + size
    entries: list[XfsEntry] = []
    for _ in range(count):
        length = fork[at]
        offset = _SF_OFFSET.unpack_from(fork, at + 1)[0]
        name = at + 1 + _SF_OFFSET.size
        end = name + length + 1 + size
        if end > len(fork):
            return None, []
        number = int.from_bytes(fork[end - size : end], "big")
        entries.append(XfsEntry(offset, number, fork[name + length], encode_text(fork[name : name + length])))
        at = end
    return parent, entries


def _put_short(data: bytearray, parent: int, entries: list[XfsEntry]) -> None:
    inode = parse_inode(0, bytes(data), 0, len(data))
    if inode is None or inode.format != DinodeFormat.LOCAL:
        raise StoreDamagedError("an edit puts directory entries into an inode that has none")
    wide = sum(number >= _LIMIT_32 for number in (parent, *(entry.inode for entry in entries)))
    size = 8 if wide else 4
    made = bytes([len(entries), wide]) + parent.to_bytes(size, "big")
    for entry in entries:
        name = decode_text(entry.name)
        made += bytes([len(name)]) + _SF_OFFSET.pack(entry.at) + name + bytes([entry.file_type])
        made += entry.inode.to_bytes(size, "big")
    _put_fork(data, CORE_SIZE, len(inode.data_fork), made)


def _put_fork(data: bytearray, start: int, size: int, content: bytes) -> None:
    if len(content) > size:
        raise StoreDamagedError("the content of an inode does not fit it", expected=size, actual=len(content))
    data[start : start + len(content)] = content


# -- attributes


def told_attributes(before: bytearray, after: bytes, form: Form) -> list[XfsAttribute] | None:
    """Tell all attributes of an inode that holds them itself, or those of a leaf that differ; None for none."""
    if form.name == ATTRIBUTE_LEAF:
        found = list(_leaf_attributes(after))
        return [item for item in found if _attribute_differs(before, item)] or None
    inode = parse_inode(0, after, 0, len(after)) if form.name == INODE else None
    if inode is None or not inode.attribute_fork or inode.attribute_format != DinodeFormat.LOCAL:
        return None
    start = CORE_SIZE + len(inode.data_fork)
    if before[start:] == after[start:]:
        return None
    return _short_attributes(inode.attribute_fork)


def put_attributes(data: bytearray, form: Form, attributes: list[XfsAttribute] | None) -> None:
    """Write the attributes of a leaf, or all of an inode's."""
    if attributes is None:
        return
    if form.name == ATTRIBUTE_LEAF:
        for item in attributes:
            _put_leaf_attribute(data, item)
        return
    inode = parse_inode(0, bytes(data), 0, len(data))
    if inode is None or not inode.attribute_fork or inode.attribute_format != DinodeFormat.LOCAL:
        raise StoreDamagedError("an edit puts attributes into an inode that has none")
    made = b""
    for item in attributes:
        name, value = decode_text(item.name), decode_text(item.value)
        made += _SF_ATTRIBUTE.pack(len(name), len(value), item.flags) + name + value
    header = _SF_ATTRIBUTES.pack(_SF_ATTRIBUTES.size + len(made), len(attributes))
    _put_fork(data, CORE_SIZE + len(inode.data_fork), len(inode.attribute_fork), header + made)


def _short_attributes(fork: bytes) -> list[XfsAttribute] | None:
    _, count = _SF_ATTRIBUTES.unpack_from(fork)
    at = _SF_ATTRIBUTES.size
    found: list[XfsAttribute] = []
    for _ in range(count):
        if at + _SF_ATTRIBUTE.size > len(fork):
            return None
        name, value, flags = _SF_ATTRIBUTE.unpack_from(fork, at)
        start = at + _SF_ATTRIBUTE.size
        if start + name + value > len(fork):
            return None
        end = start + name + value
        found.append(XfsAttribute(at, flags, encode_text(fork[start : start + name]),
                                  encode_text(fork[start + name : end])))  # fmt: skip
        at = end
    return found


def _leaf_attributes(block: bytes) -> Iterator[XfsAttribute]:
    """Yield the attributes whose values lie in the leaf itself."""
    start = XfsDa3Blkinfo.SIZE + XfsAttr3LeafHdr.SIZE
    header = XfsAttr3LeafHdr.parse(block, XfsDa3Blkinfo.SIZE)
    for at in range(start, min(start + header.count * XfsAttrLeafEntry.SIZE, len(block)), XfsAttrLeafEntry.SIZE):
        entry = XfsAttrLeafEntry.parse(block, at)
        if not entry.flags & XFS_ATTR_LOCAL or entry.nameidx + _LOCAL_ATTRIBUTE.size > len(block):
            continue
        value, name = _LOCAL_ATTRIBUTE.unpack_from(block, entry.nameidx)
        where = entry.nameidx + _LOCAL_ATTRIBUTE.size
        if where + name + value <= len(block):
            yield XfsAttribute(entry.nameidx, 0, encode_text(block[where : where + name]),
                               encode_text(block[where + name : where + name + value]))  # fmt: skip


def _put_leaf_attribute(data: bytearray, item: XfsAttribute) -> None:
    name, value = decode_text(item.name), decode_text(item.value)
    made = _LOCAL_ATTRIBUTE.pack(len(value), len(name)) + name + value
    if not 0 <= item.at <= len(data) - len(made):
        raise ValueError
    data[item.at : item.at + len(made)] = made


def _attribute_differs(before: bytearray, item: XfsAttribute) -> bool:
    made = bytearray(before)
    _put_leaf_attribute(made, item)
    return made != before


# -- symbolic links


def told_text(before: bytearray, after: bytes, form: Form) -> str | None:
    """Tell the target of a symbolic link where it differs."""
    start, size = _target(after, form)
    if not size or before[start : start + size] == after[start : start + size]:
        return None
    return encode_text(after[start : start + size])


def put_text(data: bytearray, form: Form, text: str | None) -> None:
    """Write the target of a symbolic link; its length is a field of the header."""
    if text is None:
        return
    start, size = _target(bytes(data), form)
    target = decode_text(text)
    if len(target) != size:
        raise StoreDamagedError("a link's target has another length than its inode says", expected=size)
    data[start : start + size] = target


def _target(data: bytes, form: Form) -> tuple[int, int]:
    """Return where the target of a symbolic link lies, and its length; none for anything else."""
    if form.name == SYMLINK:
        return XfsDsymlinkHdr.SIZE, min(XfsDsymlinkHdr.parse(data).sl_bytes, len(data) - XfsDsymlinkHdr.SIZE)
    inode = _local_fork(data, form)
    if inode is None or not inode.is_symlink:
        return 0, 0
    return CORE_SIZE, min(inode.size, len(inode.data_fork))
