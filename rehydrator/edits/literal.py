"""Literal bytes inside of a structure that is otherwise told by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rehydrator.errors import StoreDamagedError

_JOIN = 4  # equal bytes between two changes that are cheaper to repeat than to skip


class LiteralRun(msgspec.Struct, array_like=True, frozen=True):
    """Bytes at an offset of a block or payload that have no name."""

    offset: int
    data: bytes


def literal_runs(before: bytes, after: bytes) -> Iterator[LiteralRun]:
    """Yield the runs that make ``before`` into ``after``, which has the same length."""
    start = end = -1
    for at in (index for index in range(len(after)) if before[index] != after[index]):
        if start >= 0 and at - end > _JOIN:
            yield LiteralRun(start, after[start:end])
            start = at
        start = at if start < 0 else start
        end = at + 1
    if start >= 0:
        yield LiteralRun(start, after[start:end])


def write_runs(data: bytearray, runs: Iterable[LiteralRun]) -> None:
    """Put runs into ``data``, which keeps its length; a run beyond it is store damage."""
    for run in runs:
        if not 0 <= run.offset <= len(data) - len(run.data):
            raise StoreDamagedError("a literal run leaves its structure", offset=run.offset)
        data[run.offset : run.offset + len(run.data)] = run.data
