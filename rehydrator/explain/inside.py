"""What lies in files that hold file systems or archives: each is an image that can be compared as a whole one is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from rehydrator.codecs.streams import content, end_of, stream_at
from rehydrator.disk.source import Source
from rehydrator.disk.spool import spooled
from rehydrator.errors import CorruptError
from rehydrator.explain.peel import Opened
from rehydrator.fs.cpio.archive import after_zeros
from rehydrator.fs.probe import probe

MAX_DEPTH = 6  # a compressed archive of an initramfs of an ISO is the third, a file system in it the fourth
_MAX_DECOMPRESSED = 4 << 30


def open_inside(source: Source | None, stack: ExitStack) -> Opened | None:
    """Open a file as an image; None for one without files that can be told, for a damaged one and for none.

    What is one compressed stream is decompressed, to a file that ``stack`` closes.
    """
    if source is None:
        return None
    try:
        if stream_at(source) and after_zeros(source, end_of(source)) == source.size:
            source = stack.enter_context(spooled(_bounded(source)))
    except CorruptError:
        return None
    found = probe(source)
    return None if found is None or found.filesystem is None else Opened("", source)


def _bounded(source: Source) -> Iterator[bytes]:
    total = 0
    for piece in content(source):
        total += len(piece)
        if total > _MAX_DECOMPRESSED:
            raise CorruptError("holds too much", expected=f"at most {_MAX_DECOMPRESSED} bytes", actual="more")
        yield piece
