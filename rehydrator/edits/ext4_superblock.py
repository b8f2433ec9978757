"""``ext4.superblock``: fields of the primary superblock; backups never change."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.fields import Fields, changed, updated
from rehydrator.edits.replay import Replay
from rehydrator.edits.times import TimeTable
from rehydrator.fs.ext4.c_ext4 import SuperBlock
from rehydrator.fs.ext4.ext4 import Ext4

DERIVED = ("s_checksum",)
_TIMES = frozenset({"s_mtime", "s_wtime", "s_lastcheck"})


class Ext4Superblock(msgspec.Struct, tag="ext4.superblock", tag_field="op", frozen=True):
    """Changes of the superblock of one partition."""

    partition: str
    set: Fields

    def apply(self, replay: Replay) -> None:
        """Set the fields."""
        state = replay.state(Ext4State, self.partition)
        state.put_superblock(with_fields(state.now.superblock, self.set, replay.times).pack())

    def describe(self) -> str:
        """Name the fields."""
        return f"superblock {', '.join(self.set)}"

    def literal_bytes(self) -> int:
        """Return none: every field has its name."""
        return 0


def with_fields(superblock: SuperBlock, fields: Fields, times: TimeTable) -> SuperBlock:
    """Return a superblock with other fields; times are resolved."""
    values: Fields = {
        name: times.at(value).sec if name in _TIMES and isinstance(value, str) else value
        for name, value in fields.items()
    }
    return updated(superblock, values)


def changed_fields(before: SuperBlock, after: SuperBlock, times: TimeTable) -> Fields:
    """Return the fields that differ, with times named."""
    fields = changed(before, after, DERIVED)
    for name in _TIMES & fields.keys():
        fields[name] = times.second(getattr(after, name))
    return fields


def recognise(replay: Replay, partition: str, target: Ext4) -> Iterator[Ext4Superblock]:
    """Tell how the superblock of ``target`` differs from what it is now."""
    fields = changed_fields(replay.state(Ext4State, partition).now.superblock, target.superblock, replay.times)
    if fields:
        yield Ext4Superblock(partition, fields)
