"""The stream structure and constants of zlib-ng's native interface.

Source: zlib-ng ``zlib-ng.h``, the same from 2.1 to 2.3.
"""

from __future__ import annotations

import ctypes
from typing import ClassVar

Z_DEFLATED = 8
Z_NO_FLUSH = 0
Z_FINISH = 4
Z_OK = 0
Z_STREAM_END = 1


class ZngStream(ctypes.Structure):
    """``zng_stream``; ``next_in`` and ``next_out`` are addresses."""

    _fields_: ClassVar = [
        ("next_in", ctypes.c_char_p),
        ("avail_in", ctypes.c_uint32),
        ("total_in", ctypes.c_size_t),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint32),
        ("total_out", ctypes.c_size_t),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_uint32),
        ("reserved", ctypes.c_ulong),
    ]
