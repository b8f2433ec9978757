"""What takes deflate off: the same content with zlib-ng and without, however a stream is fed."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.codecs import inflating
from rehydrator.errors import CorruptError
from rehydrator.intake.decompress import pieces

LIBRARIES = list(dict.fromkeys([vars(inflating)["zlib_ng"], None]))
CONTENTS = st.binary(max_size=3000) | st.builds(lambda part, n: part * n, st.binary(max_size=40), st.integers(0, 900))


def inflated(stream: bytes, wbits: int, feed: int, limit: int) -> tuple[bytes, bytes]:
    """Content and what follows the stream, read in small steps."""
    decoder = inflating.decoder(wbits)
    made, at, rest = b"", 0, b""
    while not decoder.eof:
        if not rest:
            rest, at = stream[at : at + feed], at + feed
        piece = decoder.decompress(rest, limit)
        assert len(piece) <= limit
        made += piece
        if not piece and not rest:
            break
        rest = decoder.unconsumed_tail
    return made, decoder.unused_data + stream[at:]


@settings(max_examples=60, deadline=None)
@given(CONTENTS, st.integers(0, 9), st.sampled_from([-15, -12, 15, 31]), st.integers(1, 700), st.integers(1, 5000))
def test_both_libraries_give_the_content(content: bytes, level: int, wbits: int, feed: int, limit: int) -> None:
    encoder = zlib.compressobj(level, zlib.DEFLATED, wbits)
    stream = encoder.compress(content) + encoder.flush() + b"behind"
    for library in LIBRARIES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inflating, "zlib_ng", library)
            assert inflated(stream, wbits, feed, limit) == (content, b"behind")
            assert inflating.crc32(content[7:], inflating.crc32(content[:7])) == zlib.crc32(content)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: "zlib" if library is None else "zlib-ng")
@pytest.mark.parametrize("at", [3, 40, -6, -2])
def test_damage_is_named(library: object, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "zlib_ng", library)
    content = b"some text, " * 999
    data = bytearray(gzip.compress(content) + gzip.compress(b"second member"))
    path = tmp_path / "x.gz"
    path.write_bytes(data)
    assert b"".join(pieces(path, "gzip")) == content + b"second member"
    data[at] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="gzip stream is"):
        list(pieces(path, "gzip"))
