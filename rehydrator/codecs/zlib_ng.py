"""zlib-ng's deflate, by the classes of its versions whose outputs differ.

Fedora's zlib is zlib-ng since Fedora 40, so that what its ``qemu-img`` compresses depends on the class. The libraries
come from the wheels of the distribution ``zlib-ng``, whose C functions are called directly: its Python functions
compress into a buffer that grows, and where the buffer ends zlib-ng loses a match that a caller with a buffer of
full size, such as ``qemu-img``, gets. Each chunk has a stream of its own, since one that is used again may compress
otherwise. A long stream is made through buffers of 128 KiB, as the library's own gzip functions do; other programs'
buffers give the same bytes from 64 KiB on, and at all levels but 1, 5 and 6 whatever their size (measured with 2.3).
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Generator, Iterable

import msgspec

from rehydrator.codecs import wheels
from rehydrator.codecs.c_zlib_ng import Z_DEFLATED, Z_FINISH, Z_NO_FLUSH, Z_OK, Z_STREAM_END, ZngStream
from rehydrator.disk.extents import Data, whole_chunks
from rehydrator.errors import UnsupportedError

_LIBRARY = "zlib_ng/zlib_ng.*.so"
# The newest is installed with rehydrator: what Fedora 43 and later build with.
CLASSES = {
    "2.3": wheels.Wheel("zlib-ng", "1.1.0", _LIBRARY),
    "2.2": wheels.Wheel("zlib-ng", "1.0.0", _LIBRARY),
    "2.1": wheels.Wheel("zlib-ng", "0.5.1", _LIBRARY),
}
_SPARE = 1 << 10  # room for what deflate adds to incompressible data: far more than it does
_STREAM_BUFFER = 128 << 10
_buffers = threading.local()


class Library(msgspec.Struct, frozen=True):
    """The functions of one loaded library."""

    init: ctypes._NamedFuncPointer
    deflate: ctypes._NamedFuncPointer
    end: ctypes._NamedFuncPointer

    def compress(self, data: Data, level: int, wbits: int, mem_level: int, strategy: int, room: int) -> bytes | None:
        """Compress ``data`` in one call into ``room`` bytes; None where it does not fit."""
        source = bytes(data)
        stream = self._begin(level, wbits, mem_level, strategy)
        buffer = _buffer(room)
        stream.next_in, stream.avail_in = source, len(source)
        stream.next_out, stream.avail_out = ctypes.addressof(buffer), room
        status = self.deflate(ctypes.byref(stream), Z_FINISH)
        length = stream.total_out
        self.end(ctypes.byref(stream))
        return ctypes.string_at(buffer, length) if status == Z_STREAM_END else None

    def stream(
        self, content: Iterable[Data], level: int, wbits: int, mem_level: int, strategy: int
    ) -> Generator[bytes, None, None]:
        """Compress content of any length, through buffers of :data:`_STREAM_BUFFER` bytes."""
        stream = self._begin(level, wbits, mem_level, strategy)
        buffer = ctypes.create_string_buffer(_STREAM_BUFFER)
        stream.next_out, stream.avail_out = ctypes.addressof(buffer), _STREAM_BUFFER
        try:
            for piece in whole_chunks(content, _STREAM_BUFFER):
                stream.next_in, stream.avail_in = bytes(piece), len(piece)
                while stream.avail_in:
                    self.deflate(ctypes.byref(stream), Z_NO_FLUSH)
                    if not stream.avail_out:
                        yield self._emptied(stream, buffer)
            while self.deflate(ctypes.byref(stream), Z_FINISH) != Z_STREAM_END:
                yield self._emptied(stream, buffer)
            yield self._emptied(stream, buffer)
        finally:
            self.end(ctypes.byref(stream))

    def _begin(self, level: int, wbits: int, mem_level: int, strategy: int) -> ZngStream:
        stream = ZngStream()
        status = self.init(ctypes.byref(stream), level, Z_DEFLATED, wbits, mem_level, strategy)
        if status != Z_OK:
            raise UnsupportedError("zlib-ng refuses its parameters", actual=f"status {status}")
        return stream

    @staticmethod
    def _emptied(stream: ZngStream, buffer: ctypes.Array[ctypes.c_char]) -> bytes:
        """Return what the buffer holds, and give all of it to the stream again."""
        made = buffer.raw[: len(buffer) - stream.avail_out]
        stream.next_out, stream.avail_out = ctypes.addressof(buffer), len(buffer)
        return made


def room_for(length: int) -> int:
    """Return the room that any content of ``length`` bytes fits into."""
    return 2 * length + _SPARE


def _buffer(size: int) -> ctypes.Array[ctypes.c_char]:
    """Return this thread's buffer, of at least ``size`` bytes."""
    held: ctypes.Array[ctypes.c_char] | None = getattr(_buffers, "held", None)
    if held is None or len(held) < size:
        held = _buffers.held = ctypes.create_string_buffer(size)
    return held


@functools.cache
def library(version_class: str) -> Library:
    """Load the library of a class such as ``2.3``; raises UnsupportedError where this machine does not have it."""
    loaded = wheels.load(CLASSES[version_class])
    version = loaded.zlibng_version
    version.restype = ctypes.c_char_p
    said = version().decode()
    if not said.startswith(f"{version_class}."):
        raise UnsupportedError("a wheel holds another zlib-ng", expected=version_class, actual=said)
    return Library(loaded.zng_deflateInit2, loaded.zng_deflate, loaded.zng_deflateEnd)
