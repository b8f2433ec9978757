"""Compressed files made anew around damaged content: they are read to their end, which a damaged stream never is."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import zipfile
import zlib

_CHECKS = (lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256)
_PRESETS = (0, 1, 2, 3)  # the others take a dictionary of megabytes for each input
_EPOCH = (1980, 1, 1, 0, 0, 0)


def gzip_file(order: random.Random, content: bytes) -> bytes:
    """Return a gzip file by zlib, with fields of the header chosen at random."""
    made = bytearray(gzip.compress(content, order.randint(0, 9), mtime=order.getrandbits(32)))
    made[8:10] = order.choice([b"\0\3", b"\2\3", b"\4\3", order.randbytes(2)])  # XFL and OS
    if order.random() < 0.5:
        made[3] = order.choice([8, 8, 8, 0, 1, 2, 4, 16, 0xFF])  # FLG
        made[10:10] = order.randbytes(order.randrange(40)).replace(b"\0", b"x") + b"\0"
    return bytes(made)


def xz_file(order: random.Random, content: bytes) -> bytes:
    """Return a .xz file by liblzma, mostly as its program writes it with a preset, else with other settings."""
    preset = order.choice(_PRESETS)
    filters: list[dict[str, int]] | None = None
    if order.random() < 0.2:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "lc": order.randint(0, 4), "nice_len": 64}]
        if order.random() < 0.3:
            filters.insert(0, {"id": lzma.FILTER_DELTA, "dist": 1})
    check = order.choice(_CHECKS)
    made = lzma.compress(content, check=check, preset=None if filters else preset, filters=filters)
    return made * 2 if order.random() < 0.05 else made


def zip_file(order: random.Random, content: bytes) -> bytes:
    """Return a zip file by Python, with times, attributes and extra fields chosen at random."""
    out = io.BytesIO()
    member = zipfile.ZipInfo("content", _EPOCH if order.random() < 0.3 else (2026, order.randint(1, 12), 1, 2, 3, 4))
    member.external_attr = order.getrandbits(32)
    member.create_system = order.randrange(256)
    if order.random() < 0.3:
        data = order.randbytes(order.randrange(20))
        member.extra = order.getrandbits(16).to_bytes(2, "little") + len(data).to_bytes(2, "little") + data
    method = order.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2])
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(member, content, method, order.randint(1, 9))
    return out.getvalue()


def grain(packed: bytes, room: int, size: int) -> bytes | None:
    """Return what a damaged zlib stream still holds, compressed again; None where it does not fit into ``room``.

    ``size`` is that of the content.
    """
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    content = b""
    try:
        for at in range(2, len(packed), 64):
            content += decoder.decompress(packed[at : at + 64], size)
    except zlib.error:
        pass
    made = zlib.compress(content[:size].ljust(size, b"\0"), 6)
    return made if len(made) <= room else None
