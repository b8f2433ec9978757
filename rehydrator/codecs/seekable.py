"""Reading and writing the zstd seekable format with all cores and bounded memory.

Frames hold :data:`FRAME` bytes each (the last one less), carry zstd's own content checksum and are compressed and
decompressed independently, in order, by a pool of threads (zstd releases the interpreter lock).
"""

from __future__ import annotations

import bisect
import itertools
import struct
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TypeAlias

import zstandard

from rehydrator.codecs.c_seekable import (
    CHECKSUM_FLAG,
    RESERVED_BITS,
    SEEKABLE_MAGIC,
    SKIPPABLE_MAGIC,
    SeekTableEntry,
    SeekTableFooter,
    SkippableHeader,
)
from rehydrator.disk.extents import Data, Extent, ExtentMap
from rehydrator.disk.source import ByteFile, Source
from rehydrator.errors import CorruptError, StoreDamagedError

FRAME = 2 << 20  # smaller ones cost size, larger ones time where only a few bytes of each are wanted
MAX_FRAME = 4 << 20  # of files that are read, so that memory is bounded
MAX_PREFIX = 64 << 20  # that frames refer to, likewise
Pieces: TypeAlias = Iterator[Data]
_MAX_FRAMES = 0x8000000  # limit of the format
_SHORT = 64 << 10  # reads below this are a look at something; whoever copies reads more at once
_OPENINGS = 12  # more frames than the edits of one disk look into
_AROUND = 5  # frames that are kept besides those made ahead
_MAX_KEPT = 32  # frames that are kept for who comes back to them, 64 MiB
_local = threading.local()


def _dictionary(prefix: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _decompressor(prefix: bytes) -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(dict_data=_dictionary(prefix) if prefix else None)


def _compress_after(data: Data, level: int, prefix: bytes) -> bytes:
    """Compress one frame as if ``prefix`` came before it, all of which it may refer to."""
    window = (len(prefix) + len(data)).bit_length()
    settings = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(data), dict_size=len(prefix), window_log=window, write_checksum=1, write_content_size=1
    )
    return zstandard.ZstdCompressor(dict_data=_dictionary(prefix), compression_params=settings).compress(data)


def _compress_frame(data: Data, level: int, prefix: bytes) -> bytes:
    """Compress one frame; data that a quick look finds to be incompressible or empty is not worth the slow level."""
    if prefix:
        return _compress_after(data, level, prefix)

    def compressor(at: int) -> zstandard.ZstdCompressor:
        return zstandard.ZstdCompressor(level=at, write_checksum=True, write_content_size=True)

    quick = compressor(1).compress(data)
    if level <= 1 or not len(data) / 1000 < len(quick) < len(data) * 0.98:
        return quick
    return min(quick, compressor(level).compress(data), key=len)


def _decompress_frame(data: bytes, size: int, prefix: bytes) -> bytes:
    codec: zstandard.ZstdDecompressor | None = _decompressor(prefix) if prefix else getattr(_local, "codec", None)
    if codec is None:
        codec = _local.codec = zstandard.ZstdDecompressor()
    content = codec.decompress(data, max_output_size=size)
    if len(content) != size:
        raise zstandard.ZstdError(f"frame holds {len(content)} bytes, seek table says {size}")
    return content


class _Opening:
    """A frame that is decoded from its start as far as somebody asked for; its checksum is left to full readers."""

    def __init__(self, data: bytes, prefix: bytes) -> None:
        self._stream = _decompressor(prefix).stream_reader(data)
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._decoded = 0

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` to ``end`` of the frame's content."""
        while self._decoded < end:
            piece = self._stream.read(max(end - self._decoded, _SHORT))
            if not piece:
                raise zstandard.ZstdError("frame ends early")
            self._pieces.append(piece)
            self._starts.append(self._decoded)
            self._decoded += len(piece)
        index = bisect.bisect_right(self._starts, start) - 1
        base = self._starts[index]
        found = self._pieces[index][start - base : end - base]
        while len(found) < end - start:
            index += 1
            found += self._pieces[index][: end - start - len(found)]
        return found


def compress(pieces: Iterable[Data], out: IO[bytes], *, level: int, threads: int, prefix: bytes = b"") -> None:
    """Write ``pieces`` (each a frame's content, :data:`FRAME` bytes but for the last) to ``out``.

    Each frame may refer to ``prefix``, at most :data:`MAX_PREFIX` bytes, which is then needed for reading. The result
    depends on the pieces, the level, the prefix and the zstd version, not on ``threads``.
    """
    entries: list[SeekTableEntry] = []

    def finish(size: int, result: Future[bytes]) -> None:
        frame = result.result()
        out.write(frame)
        entries.append(SeekTableEntry(Compressed_Size=len(frame), Decompressed_Size=size))

    with ThreadPoolExecutor(threads, "zstd") as pool:
        pending: deque[tuple[int, Future[bytes]]] = deque()
        for piece in pieces:
            if len(pending) > threads:
                finish(*pending.popleft())
            pending.append((len(piece), pool.submit(_compress_frame, piece, level, prefix)))
        for item in pending:
            finish(*item)
    table = b"".join(entry.pack() for entry in entries)
    footer = SeekTableFooter(
        Number_Of_Frames=len(entries), Seek_Table_Descriptor=0, Seekable_Magic_Number=SEEKABLE_MAGIC
    )
    header = SkippableHeader(Skippable_Magic_Number=SKIPPABLE_MAGIC, Frame_Size=len(table) + SeekTableFooter.SIZE)
    out.write(header.pack() + table + footer.pack())


def frames_of(source: Source) -> Pieces:
    """Cut a source into the pieces that :func:`compress` takes."""
    for at in range(0, source.size, FRAME):
        yield source.read(at, min(FRAME, source.size - at))


class SeekTable:
    """Where each frame begins, in the file and in the content. All offsets in bytes."""

    def __init__(self, compressed: list[int], content: list[int]) -> None:
        self.file_offsets = list(itertools.accumulate(compressed, initial=0))
        self.content_offsets = list(itertools.accumulate(content, initial=0))

    @classmethod
    def read(cls, file: ByteFile) -> SeekTable:
        """Read the table at the end of a file; raises CorruptError where it makes no sense."""
        size, path = file.size, file.path
        footer_at = size - SeekTableFooter.SIZE
        if footer_at < SkippableHeader.SIZE:
            raise CorruptError("too short for a seekable zstd file", path=path, actual=f"{size} bytes")
        footer = SeekTableFooter.parse(file.read(footer_at, SeekTableFooter.SIZE))
        if footer.Seekable_Magic_Number != SEEKABLE_MAGIC:
            raise CorruptError(
                "no seek table at the end of the file: truncated, or not a seekable zstd file",
                path=path,
                offset=footer_at + SeekTableFooter.offset_of("Seekable_Magic_Number"),
                expected=f"{SEEKABLE_MAGIC:#x}",
                actual=f"{footer.Seekable_Magic_Number:#x}",
            )
        if footer.Seek_Table_Descriptor & RESERVED_BITS:
            raise CorruptError("reserved bits set in the seek table", path=path, offset=footer_at)
        # an optional XXH64 per frame follows the two sizes; the frames carry their own checksum
        step = SeekTableEntry.SIZE + (4 if footer.Seek_Table_Descriptor & CHECKSUM_FLAG else 0)
        length = footer.Number_Of_Frames * step
        start = footer_at - length
        header_at = start - SkippableHeader.SIZE
        if footer.Number_Of_Frames > _MAX_FRAMES or header_at < 0:
            raise CorruptError("impossible frame count", path=path, offset=footer_at, actual=footer.Number_Of_Frames)
        header = SkippableHeader.parse(file.read(header_at, SkippableHeader.SIZE))
        if (header.Skippable_Magic_Number, header.Frame_Size) != (SKIPPABLE_MAGIC, length + SeekTableFooter.SIZE):
            raise CorruptError("the seek table's frame header is wrong", path=path, offset=header_at)
        fields = struct.unpack(f"<{length // 4}I", file.read(start, length))
        stride = step // 4
        table = cls(list(fields[0::stride]), list(fields[1::stride]))
        if table.file_offsets[-1] != header_at:
            raise CorruptError(
                "the frames do not fill the file",
                path=path,
                expected=f"{header_at} bytes",
                actual=f"{table.file_offsets[-1]} bytes",
            )
        return table


class SeekableSource(Source):
    """Random access to the content of a seekable zstd file.

    Sequential readers are served ahead by ``threads`` decoders; ``threads + 6`` frames are kept, and up to 32 for a
    reader who comes back to frames that were kept no longer, until somebody reads on to the end. A short read somewhere
    else decodes a frame only up to there, which a dozen of frames remember until one is read whole; a frame that would
    be decoded so a second time is read whole.
    ``known`` is the exact map of non-zero blocks: frames outside of it are never read. ``prefix`` is what the frames
    refer to; it is read when the first of them is. ``file`` is closed with this.
    """

    def __init__(
        self, file: ByteFile, *, threads: int, known: ExtentMap | None = None, prefix: Source | None = None
    ) -> None:
        self._file = file
        self.path = path = file.path
        self._prefix_source = prefix
        self._prefix_data: bytes | None = None
        if prefix is not None and prefix.size > MAX_PREFIX:
            raise StoreDamagedError(
                "refers to too much", path=path, expected=f"at most {MAX_PREFIX}", actual=prefix.size
            )
        self._table = SeekTable.read(file)
        self.size = self._table.content_offsets[-1]
        self._frame = self._table.content_offsets[1] if len(self._table.content_offsets) > 1 else MAX_FRAME
        self._check_uniform()
        self._known = known
        self._ahead = threads + 1
        self._pool = ThreadPoolExecutor(threads, "unzstd")
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._openings: OrderedDict[int, _Opening] = OrderedDict()
        self._keep = self._ahead + _AROUND
        self._dropped: OrderedDict[int, None] = OrderedDict()  # frames that are kept no longer, the last ones
        self._opened: set[int] = set()  # frames that were decoded in part
        self._last = -1
        self._last_frame = len(self._table.content_offsets) - 2

    def _check_uniform(self) -> None:
        offsets = self._table.content_offsets
        for index in range(len(offsets) - 1):
            length = offsets[index + 1] - offsets[index]
            last = index == len(offsets) - 2
            usual = length == self._frame or (last and length < self._frame)
            if not 0 < length <= MAX_FRAME or not usual:
                raise CorruptError(
                    f"frame {index} has an unusual size", path=self.path, expected=self._frame, actual=length
                )

    def _prefix(self) -> bytes:
        # no lock is held meanwhile, since this reads another file like this one: at worst it is read twice
        if self._prefix_data is None:
            source = self._prefix_source
            self._prefix_data = bytes(source.read(0, source.size)) if source is not None else b""
        return self._prefix_data

    def _compressed(self, index: int) -> bytes:
        start, end = self._table.file_offsets[index : index + 2]
        return bytes(self._file.read(start, end - start))

    def _damaged(self, index: int, error: Exception) -> StoreDamagedError:
        return StoreDamagedError(
            f"frame {index} can't be decompressed: {error}",
            path=self.path,
            offset=self._table.file_offsets[index],
            hint="The store is damaged; fetch it again",
        )

    def _decode(self, index: int) -> bytes:
        size = self._table.content_offsets[index + 1] - self._table.content_offsets[index]
        try:
            return _decompress_frame(self._compressed(index), size, self._prefix())
        except zstandard.ZstdError as error:
            raise self._damaged(index, error) from error

    def _look(self, index: int, start: int, length: int) -> bytes | None:
        """Return a short piece of a frame that lies off the sequential readers' way, None for one on it."""
        with self._lock:
            if index in self._cache or (self._last >= 0 and index - self._last in (0, 1)):
                return None
            opening = self._openings.get(index)
            if opening is None:
                if index in self._opened:
                    return None
                opening = self._openings[index] = _Opening(self._compressed(index), self._prefix())
                self._opened.add(index)
            self._openings.move_to_end(index)
            if len(self._openings) > _OPENINGS:
                self._openings.popitem(last=False)
            try:
                return opening.read(start, start + length)
            except zstandard.ZstdError as error:
                raise self._damaged(index, error) from error

    def _wanted(self, index: int) -> bool:
        if index >= len(self._table.content_offsets) - 1:
            return False
        return self._known is None or self._known.touches(index * self._frame, self._frame)

    def _content(self, index: int) -> bytes:
        with self._lock:
            sequential = index == self._last + 1
            if index != self._last:
                self._openings.clear()
                self._last = index
                following = range(index + 1, index + 1 + self._ahead) if sequential else range(0)
                if index in self._dropped:
                    self._keep = min(2 * self._keep, max(_MAX_KEPT, self._ahead + _AROUND))
                for at in (index, *(at for at in following if self._wanted(at))):
                    if at in self._cache:
                        self._cache.move_to_end(at)
                    else:
                        self._dropped.pop(at, None)
                        self._cache[at] = self._pool.submit(self._decode, at)
                self._cache.move_to_end(index)
                if sequential and index == self._last_frame:
                    self._forget_but(index)
                self._drop()
            result = self._cache[index]
        return result.result()

    def _drop(self) -> None:
        """Keep no more frames than are wanted."""
        while len(self._cache) > self._keep:
            dropped, _ = self._cache.popitem(last=False)
            self._dropped[dropped] = None
            if len(self._dropped) > _MAX_KEPT:
                self._dropped.popitem(last=False)

    def _forget_but(self, index: int) -> None:
        """Keep one frame, and begin anew: somebody read to the end, and a store has many files like this one."""
        self._cache = OrderedDict({index: self._cache[index]})
        self._dropped.clear()
        self._opened.clear()
        self._keep = self._ahead + _AROUND

    def read(self, offset: int, length: int) -> Data:
        """Decode the frames that the range needs; zero parts by the known map cost nothing."""
        if self._known is not None and not self._known.touches(offset, length):
            return bytes(length)
        index, inside = divmod(offset, self._frame)
        if inside + length <= self._frame:
            found = self._look(index, inside, length) if 0 < length < _SHORT else None
            return memoryview(self._content(index))[inside : inside + length] if found is None else found
        parts: list[Data] = []
        while length:
            step = min(length, self._frame - inside)
            parts.append(memoryview(self._content(index))[inside : inside + step])
            length -= step
            index, inside = index + 1, 0
        return b"".join(parts)

    def extents(self) -> Iterator[Extent]:
        """Yield the known map, or the whole range."""
        if self._known is not None:
            yield from self._known
        elif self.size:
            yield Extent(0, self.size)

    def nonzero(self) -> ExtentMap:
        """Return the known map, or scan the content once."""
        if self._known is None:
            self._known = super().nonzero()
        return self._known

    def close(self) -> None:
        """Stop the decoders and close the file."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._cache.clear()
        self._openings.clear()
        self._file.close()
