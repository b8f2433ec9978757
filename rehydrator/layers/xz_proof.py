"""Proving that an encoder gives the blocks of a .xz file: each content once, on all cores."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from rehydrator.codecs import lzma2
from rehydrator.codecs.c_xz import Check, padding
from rehydrator.disk.extents import Data
from rehydrator.disk.source import Source
from rehydrator.layers.exactness import first_difference
from rehydrator.layers.xz_blocks import Shape, pieces
from rehydrator.layers.xz_read import Block


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """The threads that encode, apart from those that compress chunks: a block at preset 9 takes half a minute."""
    return ThreadPoolExecutor(lzma2.slots(), "xz")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has none of the threads


class _Key(msgspec.Struct, frozen=True):
    """Everything that a block's data and check follow from."""

    encoder: str
    check: Check
    content_sha256: bytes


class _Verdict(msgspec.Struct, frozen=True):
    """What came of comparing a block: the digest of its data with its check, or the place of the first difference.

    Neither is there where the work was stopped, since another block differed.
    """

    data_sha256: bytes = b""
    differs_at: int | None = None


class Proofs:
    """Which data was proven for which content: digests only. Safe to use from several threads.

    The disks of a release share blocks, above all those of zeros; each is encoded once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts: dict[_Key, Future[_Verdict]] = {}

    def difference(self, content: Source, outer: Source, shape: Shape, blocks: list[Block]) -> int | None:
        """Return a place in ``outer`` where a block departs from what its content is encoded to; None: nowhere.

        The first difference ends the work on all blocks. Raises what reading either source raises.
        """
        comparison = _Comparison(content, outer, shape, blocks)
        try:
            jobs = [self._job(comparison, number) for number in comparison.numbers()]
            found = [self._place(job, comparison, number) for number, job in enumerate(jobs)]
        finally:
            comparison.stopped.set()
        return min((at for at in found if at is not None), default=None)

    def _job(self, comparison: _Comparison, number: int) -> _Job:
        """Return the work on a block: another file's, where that has the same content, else a new one."""
        key = comparison.key(number)
        with self._lock:
            known = self._verdicts.get(key)
            if known is not None:
                return _Job(key, known, shared=True)
            self._verdicts[key] = _pool().submit(comparison.run, number)
            return _Job(key, self._verdicts[key], shared=False)

    def _place(self, job: _Job, comparison: _Comparison, number: int) -> int | None:
        """Wait for the work on a block; return where the block differs, if it does."""
        if job.shared:
            proven = job.verdict.result().data_sha256 if job.verdict.exception() is None else b""
            if proven:
                return None if proven == comparison.shipped(number) else comparison.at(number)
            return _pool().submit(comparison.run, number).result().differs_at  # the other file's own trouble
        try:
            verdict = job.verdict.result()
        except BaseException:
            self._forget(job.key)
            raise
        if not verdict.data_sha256:
            self._forget(job.key)
        return verdict.differs_at

    def _forget(self, key: _Key) -> None:
        with self._lock:
            self._verdicts.pop(key, None)


class _Job(msgspec.Struct, frozen=True):
    """The work on a block; ``shared`` if another file's block of the same content began it."""

    key: _Key
    verdict: Future[_Verdict]
    shared: bool


class _StoppedError(Exception):
    """Ends the encoding of a block that no longer matters."""


class _Comparison:
    """The blocks of one file beside what one encoder makes of its content."""

    def __init__(self, content: Source, outer: Source, shape: Shape, blocks: list[Block]) -> None:
        self._content = content
        self._outer = outer
        self._shape = shape
        self._blocks = blocks
        self.stopped = threading.Event()

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the blocks until one of them is found to differ."""
        for number in range(self._shape.count):
            if self.stopped.is_set():
                return
            yield number

    def at(self, number: int) -> int:
        """Return where a block's data begins in the file."""
        return self._blocks[number].at

    def key(self, number: int) -> _Key:
        """Return what a block's proof is known by."""
        return _Key(self._shape.encoder.name, self._shape.check, _sha256(self._pieces(number)))

    def _pieces(self, number: int) -> Iterator[Data]:
        shape = self._shape
        return pieces(self._content, number * shape.block_size, shape.length(number))

    def shipped(self, number: int) -> bytes:
        """Return the digest of a block's data and check, as they are in the file."""
        block = self._blocks[number]
        data = pieces(self._outer, block.at, block.size)
        return _sha256(data, bytes(self._outer.read(*self._check_place(number))))

    def _check_place(self, number: int) -> tuple[int, int]:
        block = self._blocks[number]
        return block.at + block.size + padding(block.size), self._shape.check.size

    def _pieces_until_stopped(self, number: int) -> Iterator[Data]:
        for piece in self._pieces(number):
            if self.stopped.is_set():
                raise _StoppedError
            yield piece

    def run(self, number: int) -> _Verdict:
        """Encode a block and compare it with the file; the first difference stops all."""
        try:
            with lzma2.RUNNING:
                verdict = self._compare(number)
        except _StoppedError:
            return _Verdict()
        except BaseException:
            self.stopped.set()
            raise
        if verdict.differs_at is not None:
            self.stopped.set()
        return verdict

    def _compare(self, number: int) -> _Verdict:
        block = self._blocks[number]
        encoded = self._shape.encoder.block(self._pieces_until_stopped(number), self._shape.check)
        sha256 = hashlib.sha256()
        at, end = block.at, block.at + block.size
        for piece in encoded:
            place = first_difference(bytes(self._outer.read(at, min(len(piece), end - at))), piece)
            if place is not None:
                return _Verdict(differs_at=at + place)
            sha256.update(piece)
            at += len(piece)
        check_at, size = self._check_place(number)
        if at != end:
            return _Verdict(differs_at=at)
        if bytes(self._outer.read(check_at, size)) != encoded.check:
            return _Verdict(differs_at=check_at)
        sha256.update(encoded.check)
        return _Verdict(sha256.digest())


def _sha256(data: Iterator[Data], rest: bytes = b"") -> bytes:
    sha256 = hashlib.sha256()
    for piece in data:
        sha256.update(piece)
    sha256.update(rest)
    return sha256.digest()
