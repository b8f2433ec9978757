"""``file``: a file of an ext4 or XFS partition gets other content, in the blocks that its inode has by then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from rehydrator.edits.base import BlobWriter
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.edits.xfs_files import XfsFiles, held_blocks
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.xfs.geometry import is_xfs
from rehydrator.fs.xfs.xfs import Xfs

MAX_TEXT = 4 << 10
_MAX_CONTENT = 64 << 20


class FileContent(msgspec.Struct, tag="file", tag_field="op", frozen=True, omit_defaults=True):
    """The new content of the file ``path``, which is inode ``inode``.

    It is the first ``keep`` bytes that the file has by then, and behind them ``text``, or the content of ``blob``.
    """

    partition: str
    inode: int
    path: str
    keep: int = 0
    text: str = ""
    blob: str = ""

    def apply(self, replay: Replay) -> None:
        """Write the content and the size that follows from it."""
        state = _files(replay, self.partition)
        kept = state.read_file(self.inode, _MAX_CONTENT)[: self.keep] if self.keep else b""
        if not 0 <= self.keep <= len(kept):
            raise StoreDamagedError(f"{self.path} is shorter than what is kept of it", expected=self.keep)
        state.put_content(self.inode, kept + (replay.blob(self.blob) if self.blob else self.text.encode()))

    def describe(self) -> str:
        """Name the file."""
        if self.keep:
            return f"{self.path} from byte {self.keep} on rewritten"
        return f"{self.path} rewritten" + (f", {counted(len(self.text.encode()), 'byte')}" if self.text else "")

    def literal_bytes(self) -> int:
        """Return none: the content of a file has a name, and is there to be read."""
        return 0


def recognise(
    replay: Replay, partition: str, target: Ext4, files: Sequence[tuple[int, str]], blobs: BlobWriter
) -> Iterator[FileContent]:
    """Tell files (inode and path) whose blocks hold other content than now, or something behind their end."""
    now = replay.state(Ext4State, partition).now
    for number, path in files:
        after = target.inode(number)
        if not after.size or max(after.size, now.inode(number).size) > _MAX_CONTENT or not target.has_blocks(after):
            continue
        content, held = target.read_file(number, _MAX_CONTENT), now.read_file(number, _MAX_CONTENT)
        if content != held or _blocks(target, number) != _blocks(now, number):
            yield _told(partition, number, path, content, held, blobs)


def recognise_xfs(
    replay: Replay, partition: str, target: Xfs, files: Sequence[tuple[int, str]], blobs: BlobWriter
) -> Iterator[FileContent]:
    """Tell files of an XFS partition, as :func:`recognise` does."""
    now = replay.state(XfsFiles, partition)
    for number, path in files:
        inode = target.inode(number)
        if inode is None or not inode.is_file or not 0 < inode.size <= _MAX_CONTENT:
            continue
        content, held = target.read_file(inode), now.read_file(number, _MAX_CONTENT)
        if content != held or held_blocks(target, inode) != now.blocks(number):
            yield _told(partition, number, path, content, held, blobs)


class _Files(Protocol):
    """The files of a partition, whatever file system it has."""

    def read_file(self, number: int, limit: int) -> bytes: ...

    def put_content(self, number: int, content: bytes) -> None: ...


def _files(replay: Replay, partition: str) -> _Files:
    if is_xfs(replay.before(partition)):
        return replay.state(XfsFiles, partition)
    return replay.state(Ext4State, partition)


def _told(partition: str, number: int, path: str, content: bytes, held: bytes, blobs: BlobWriter) -> FileContent:
    keep = _common(content, held)
    rest = content[keep:]
    text = _text(rest)
    if text is None:
        return FileContent(partition, number, path, keep, blob=blobs.put(rest))
    return FileContent(partition, number, path, keep, text)


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # comparing halves at once is much faster than byte by byte
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _blocks(fs: Ext4, number: int) -> bytes:
    """Return what the blocks of a file hold, also behind its end."""
    runs = fs.block_map(fs.inode(number)).runs
    size = fs.geometry.block_size
    return b"".join(fs.read(run.physical * size, run.count * size) for run in runs)


def _text(content: bytes) -> str | None:
    """Return what may stand in a manifest as text."""
    if len(content) > MAX_TEXT or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
