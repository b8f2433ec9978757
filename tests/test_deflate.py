"""Encoders by name: known answers, recognition, refusal; and reading ahead in order."""

from __future__ import annotations

import os
import random
import signal
import threading
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.codecs import deflate
from rehydrator.codecs.deflate import Shape
from rehydrator.codecs.deflate_pool import ReadAhead, Work
from rehydrator.codecs.fingerprint import recognise
from rehydrator.errors import UnsupportedError


def text(seed: int, length: int = 60_000) -> bytes:
    """Compressible text in which the levels differ."""
    source = random.Random(seed)
    words = [source.randbytes(source.randrange(2, 12)) for _ in range(200)]
    return b"".join(source.choices(words, k=length // 6))[:length]


RAW = Shape(wbits=-12, mem_level=9)
NG = [f"zlib-ng-2.3-{level}" for level in range(1, 10)]


def has(name: str) -> bool:
    """Whether this machine has an encoder; all but zlib's are libraries for some processors."""
    try:
        deflate.encoder(name)
    except UnsupportedError:
        return False
    return True


UNUSUAL = ["zlib-6-mem4", "zlib-9-mem1", "zlib-1-mem7", "zlib-3-mem2", "zlib-6-rle", "zlib-6-huffman"]


@pytest.mark.parametrize("name", [*deflate.NAMES, *UNUSUAL, *NG])
@pytest.mark.parametrize("shape", [Shape(), RAW], ids=["vmdk", "qcow2"])
def test_each_encoder_is_recognised(name: str, shape: Shape) -> None:
    if not has(name):
        pytest.skip(f"no library for {name} on this machine")
    encoder = deflate.encoder(name)
    samples = [(plain, encoder.compress(plain, shape) or b"") for plain in (text(1), text(2), b"", b"a" * 999)]
    found = recognise(samples, shape)
    assert found.exact
    assert [found.encoder.compress(plain, shape) for plain, _ in samples] == [packed for _, packed in samples]


@given(st.binary(max_size=5000), st.sampled_from([*deflate.NAMES, "zlib-ng-2.3-6"]))
def test_what_is_compressed_comes_back(data: bytes, name: str) -> None:
    if not has(name):
        return
    packed = deflate.encoder(name).compress(data)
    assert packed is not None
    assert zlib.decompress(packed) == data
    assert packed == zlib.compress(data, int(name[-1])) or "ng" in name


@pytest.mark.parametrize("name", ["zlib-6", "zlib-ng-2.3-6"])
def test_no_room(name: str) -> None:
    """A stream that fills its room exactly is not finished, to zlib as to zlib-ng."""
    if not has(name):
        pytest.skip(f"no library for {name} on this machine")
    plain = text(3, 4096)
    packed = deflate.encoder(name).compress(plain, RAW)
    assert packed is not None
    for room, kept in ((len(packed) + 1, packed), (len(packed), None), (100, None)):
        assert deflate.encoder(name).compress(plain, Shape(RAW.wbits, RAW.mem_level, room)) == kept


def test_the_closest_encoder_is_found() -> None:
    good = text(1)
    samples = [(good, zlib.compress(good, 6)), (good, zlib.compress(good, 6)), (b"x" * 50, zlib.compress(b"x" * 50, 0))]
    found = recognise(samples)
    assert (found.encoder.name, found.hits, found.tried) == ("zlib-6", 2, 3)
    assert 0 < found.literal <= len(samples[2][1]) < found.packed


@pytest.mark.parametrize("name", ["", "zlib-0", "zlib-10", "zlib-ng-6", "x" * 1000])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="unknown deflate encoder") as caught:
        deflate.encoder(name)
    assert len(str(caught.value)) < 300


@pytest.fixture
def _other_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zlib that compresses otherwise, as a Python on zlib-ng has."""
    real = zlib.compressobj

    def other(level: int, method: int, wbits: int, mem_level: int, strategy: int = 0) -> object:
        return real(max(level - 1, 1), method, wbits, mem_level, strategy)

    def forget() -> None:
        deflate.encoder.cache_clear()
        deflate.known_answer.cache_clear()

    forget()
    monkeypatch.setattr(zlib, "compressobj", other)
    yield
    forget()


@pytest.mark.usefixtures("_other_library")
def test_a_library_with_another_answer_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="zlib-6 is needed") as caught:
        deflate.encoder("zlib-6")
    assert "a Python that is built with the zlib of zlib.net" in str(caught.value.hint)


def test_neighbours_of_one_library_are_told_apart() -> None:
    """The test text has to tell all classes of zlib-ng from each other, at the level that is used."""
    answers = {family: numbers[5] for family, numbers in deflate._KNOWN_ANSWERS.items()}
    assert len(set(answers.values())) == len(answers) == 4


class Squares:
    """Pieces that note in which order they were prepared."""

    def __init__(self) -> None:
        self.prepared: list[int] = []

    def prepare(self, number: int) -> Work[bytes]:
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
    def prepare(number: int) -> Work[bytes]:
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


def test_a_fork_has_threads_of_its_own() -> None:
    """A process that was forked when the threads were there does not wait for them for ever."""
    assert ReadAhead(1, lambda _number: lambda: b"made", ahead=1)[0] == b"made"
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if ReadAhead(1, lambda _number: lambda: b"made", ahead=1)[0] == b"made" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
