"""Naming the blocks of the journal."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.binary import FieldSpan
from rehydrator.disk.extents import Extent
from rehydrator.fs.ext4.c_jbd2 import BlockHeader, BlockTail, CommitHeader, JournalSuperBlock, RevokeHeader
from rehydrator.fs.ext4.jbd2 import Age, Copy, Descriptor, Journal, LogBlock, Revoke, Role, TagLayout
from rehydrator.fs.ext4.naming import Names
from rehydrator.fs.place import Kind, Place

_KINDS = {
    Role.DESCRIPTOR: Kind.JOURNAL_DESCRIPTOR,
    Role.COPY: Kind.JOURNAL_COPY,
    Role.COMMIT: Kind.JOURNAL_COMMIT,
    Role.REVOKE: Kind.JOURNAL_REVOKE,
    Role.FAST_COMMIT: Kind.JOURNAL_STALE,
    Role.UNUSED: Kind.JOURNAL_STALE,
}


def journal_place(journal: Journal | None, names: Names, start: int, number: int, size: int) -> Iterator[Place]:
    """Yield the places of journal block ``number``, which begins at byte ``start`` and has ``size`` bytes."""
    if number == 0:
        end = min(JournalSuperBlock.SIZE, size)
        fields = JournalSuperBlock.FIELDS
        yield Place(Extent(start, end), start, Kind.JOURNAL_SUPERBLOCK, "journal superblock", fields=fields)
        if size > end:
            extent = Extent(start + end, size - end)
            yield Place(extent, start + end, Kind.SLACK, "slack behind the journal superblock")
        return
    block = journal.block(number) if journal is not None else LogBlock(number, Role.UNUSED)
    extent = Extent(start, size)
    if journal is None or block.role in (Role.UNUSED, Role.FAST_COMMIT):
        name = "fast commit area of the journal" if block.role == Role.FAST_COMMIT else "unused journal block"
        yield Place(extent, start, _KINDS[block.role], name, number)
        return
    age = journal.age_of(block)
    suffix = "" if age == Age.LATEST else f" ({age.value})"
    text = f"of transaction {block.sequence}{suffix}"
    if isinstance(block.item, Copy):
        home = block.item.tag.home
        path = names.path_of_block(home)
        yield Place(extent, start, Kind.JOURNAL_COPY, f"copy of {names.block(home)} {text}", number, path)
        return
    fields = _fields(block, journal.layout, size)
    yield Place(extent, start, _KINDS[block.role], f"journal {block.role.value} {text}", number, fields=fields)


def _fields(block: LogBlock, layout: TagLayout, size: int) -> tuple[FieldSpan, ...]:
    if isinstance(block.item, Descriptor):
        return (*BlockHeader.FIELDS, *_tag_fields(block.item, layout), *_tail(layout, size))
    if isinstance(block.item, Revoke):
        return (*RevokeHeader.FIELDS, *_home_fields(block.item, layout), *_tail(layout, size))
    return CommitHeader.FIELDS


def _tag_fields(descriptor: Descriptor, layout: TagLayout) -> Iterator[FieldSpan]:
    for index, tag in enumerate(descriptor.tags):
        for span in layout.structure.FIELDS:
            yield FieldSpan(f"tags[{index}].{span.name}", tag.offset + span.offset, span.size)


def _home_fields(revoke: Revoke, layout: TagLayout) -> Iterator[FieldSpan]:
    size = layout.revoke_size
    for index in range(len(revoke.homes)):
        yield FieldSpan(f"blocks[{index}]", RevokeHeader.SIZE + index * size, size)


def _tail(layout: TagLayout, size: int) -> tuple[FieldSpan, ...]:
    if not layout.block_tails:
        return ()
    return tuple(FieldSpan(span.name, size - BlockTail.SIZE + span.offset, span.size) for span in BlockTail.FIELDS)
