"""Encoders by name: known answers, recognition, refusal; and reading ahead in order."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.codecs import deflate
from rehydrator.codecs.deflate_pool import ReadAhead, Work
from rehydrator.errors import UnsupportedError


def text(seed: int, length: int = 60_000) -> bytes:
    """Compressible text in which the levels differ."""
    source = random.Random(seed)
    words = [source.randbytes(source.randrange(2, 12)) for _ in range(200)]
    return b"".join(source.choices(words, k=length // 6))[:length]


@pytest.mark.parametrize("name", deflate.NAMES)
@pytest.mark.parametrize(("wbits", "mem_level"), [(15, 8), (-12, 9)])
def test_each_encoder_is_recognised(name: str, wbits: int, mem_level: int) -> None:
    encoder = deflate.encoder(name)
    samples = [
        (plain, encoder.compress(plain, wbits=wbits, mem_level=mem_level))
        for plain in (text(1), text(2), b"", b"a" * 999)
    ]
    found = deflate.recognise(samples, wbits=wbits, mem_level=mem_level)
    assert [found.compress(plain, wbits=wbits, mem_level=mem_level) for plain, _ in samples] == [
        packed for _, packed in samples
    ]


@given(st.binary(max_size=5000), st.sampled_from(deflate.NAMES))
def test_what_is_compressed_comes_back(data: bytes, name: str) -> None:
    packed = deflate.encoder(name).compress(data)
    assert zlib.decompress(packed) == data
    assert packed == zlib.compress(data, int(name[-1]))


def test_an_unknown_encoder_is_named_with_the_closest() -> None:
    good = text(1)
    samples = [(good, zlib.compress(good, 6)), (good, zlib.compress(good, 6)), (b"x" * 50, zlib.compress(b"x" * 50, 0))]
    with pytest.raises(UnsupportedError, match="unknown deflate encoder") as caught:
        deflate.recognise(samples)
    assert caught.value.actual == "zlib-6 for 2 of 3 samples"
    with pytest.raises(UnsupportedError, match="none of zlib-1"):
        deflate.recognise(samples[2:])


@pytest.mark.parametrize("name", ["", "zlib-0", "zlib-10", "zlib-ng-6", "x" * 1000])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="unknown deflate encoder") as caught:
        deflate.encoder(name)
    assert len(str(caught.value)) < 300


@pytest.fixture
def _other_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zlib that compresses otherwise, as a Python on zlib-ng has."""
    real = zlib.compressobj

    def other(level: int, method: int, wbits: int, mem_level: int) -> object:
        return real(max(level - 1, 1), method, wbits, mem_level)

    deflate.encoder.cache_clear()
    monkeypatch.setattr(zlib, "compressobj", other)
    yield
    deflate.encoder.cache_clear()


@pytest.mark.usefixtures("_other_library")
def test_a_library_with_another_answer_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="zlib-6 is needed") as caught:
        deflate.encoder("zlib-6")
    assert "zlib-ng" in str(caught.value.hint)
    with pytest.raises(UnsupportedError, match="is needed"):
        deflate.recognise([(b"abc", b"def")])


class Squares:
    """Pieces that note in which order they were prepared."""

    def __init__(self) -> None:
        self.prepared: list[int] = []

    def prepare(self, number: int) -> Work:
        assert threading.current_thread() is threading.main_thread()
        self.prepared.append(number)
        return lambda: b"%d" % number**2


def test_a_forward_reader_is_served_ahead() -> None:
    squares = Squares()
    pieces = ReadAhead(100, squares.prepare, ahead=4)
    assert [pieces[number] for number in range(100) for _ in range(2)] == [
        b"%d" % number**2 for number in range(100) for _ in range(2)
    ]
    assert squares.prepared == list(range(100))
    assert len(pieces._made) <= 9


def test_a_jumping_reader_makes_little_more_than_it_wants() -> None:
    squares = Squares()
    pieces = ReadAhead(1000, squares.prepare, ahead=8)
    order = random.Random(1)
    for _ in range(200):
        number = order.randrange(1000)
        assert pieces[number] == b"%d" % number**2
    assert len(squares.prepared) < 240
    assert len(pieces._made) <= 17


def test_an_error_is_given_to_the_reader_of_its_piece() -> None:
    def prepare(number: int) -> Work:
        def work() -> bytes:
            if number == 3:
                raise UnsupportedError("no three")
            return bytes([number])

        return work

    pieces = ReadAhead(6, prepare, ahead=3)
    assert [pieces[0], pieces[1], pieces[2]] == [b"\0", b"\1", b"\2"]
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="no three"):
            pieces[3]
    assert pieces[4] == b"\4"
