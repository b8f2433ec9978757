"""zlib-ng's deflate, by the classes of its versions whose outputs differ.

Fedora's zlib is zlib-ng since Fedora 40, so that what its ``qemu-img`` compresses depends on the class. The libraries
come from the wheels of the distribution ``zlib-ng``, whose C functions are called directly: its Python functions
compress into a buffer that grows, and where the buffer ends zlib-ng loses a match that a caller with a buffer of
full size, such as ``qemu-img``, gets. Each chunk has a stream of its own, since one that is used again may compress
otherwise.
"""

from __future__ import annotations

import ctypes
import functools
import threading

import msgspec

from rehydrator.codecs import wheels
from rehydrator.codecs.c_zlib_ng import Z_DEFLATED, Z_FINISH, Z_OK, Z_STREAM_END, ZngStream
from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError

_LIBRARY = "zlib_ng/zlib_ng.*.so"
# The newest is installed with rehydrator: what Fedora 43 and later build with.
CLASSES = {
    "2.3": wheels.Wheel("zlib-ng", "1.1.0", _LIBRARY),
    "2.2": wheels.Wheel("zlib-ng", "1.0.0", _LIBRARY),
    "2.1": wheels.Wheel("zlib-ng", "0.5.1", _LIBRARY),
}
_SPARE = 1 << 10  # room for what deflate adds to incompressible data: far more than it does
_buffers = threading.local()


class Library(msgspec.Struct, frozen=True):
    """The functions of one loaded library."""

    init: ctypes._NamedFuncPointer
    deflate: ctypes._NamedFuncPointer
    end: ctypes._NamedFuncPointer

    def compress(self, data: Data, level: int, wbits: int, mem_level: int, strategy: int, room: int) -> bytes | None:
        """Compress ``data`` in one call into ``room`` bytes; None where it does not fit."""
        source = bytes(data)
        stream = ZngStream()
        status = self.init(ctypes.byref(stream), level, Z_DEFLATED, wbits, mem_level, strategy)
        if status != Z_OK:
            raise UnsupportedError("zlib-ng refuses its parameters", actual=f"status {status}")
        buffer = _buffer(room)
        stream.next_in, stream.avail_in = source, len(source)
        stream.next_out, stream.avail_out = ctypes.addressof(buffer), room
        status = self.deflate(ctypes.byref(stream), Z_FINISH)
        length = stream.total_out
        self.end(ctypes.byref(stream))
        return ctypes.string_at(buffer, length) if status == Z_STREAM_END else None


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
