"""A disk with more data than a small release has: the data of a raw disk again and again, with its smaller holes."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import BenchError

_MAX_HOLE = 8 << 20  # larger holes are cut to this, so that comparing a file of fixed size takes no minutes
_PIECE = 1 << 20


def enlarge(source: Path, target: Path, data: int) -> None:
    """Write a sparse file that holds at least ``data`` bytes of what ``source`` holds besides holes."""
    fd, out = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        runs = list(_runs(fd))
        if not runs:
            raise BenchError(f"{source}: no data to enlarge it with")
        at = written = 0
        before = 0  # the end of the last run in the source
        for start, end in itertools.cycle(runs):
            at += min(max(start - before, 0), _MAX_HOLE)
            _copy(fd, out, start, end, at)
            at, before, written = at + end - start, end, written + end - start
            if end == runs[-1][1]:
                before = 0
                if written >= data:
                    break
        os.ftruncate(out, at + _MAX_HOLE)
    finally:
        os.close(fd)
        os.close(out)


def _runs(fd: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of what is no hole."""
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _copy(fd: int, out: int, start: int, end: int, at: int) -> None:
    while start < end:
        piece = os.pread(fd, min(_PIECE, end - start), start)
        start, at = start + len(piece), at + os.pwrite(out, piece, at)
