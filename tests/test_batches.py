"""Pieces that are read in another order than they are given out in."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.codecs.batches import Batches, Prepared
from rehydrator.codecs.deflate_pool import Work
from rehydrator.disk.source import BytesSource, Window
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.relocation.segments import LITERAL, Segment, SegmentSource


class Squares:
    """Pieces of a shuffled order, which note what was prepared and what is held."""

    def __init__(self, count: int, seed: int = 0, broken: int = -1) -> None:
        self.count = count
        self.ranges: list[range] = []
        self.prepared: list[int] = []
        self.single: list[int] = []
        self._random = random.Random(seed)
        self._broken = broken

    def batch(self, numbers: range) -> Iterator[Prepared[bytes]]:
        """Prepare a range in any order."""
        self.ranges.append(numbers)
        for number in self._random.sample(numbers, len(numbers)):
            assert threading.current_thread() is threading.main_thread()
            if number == self._broken:
                raise CorruptError("can't be read")
            self.prepared.append(number)
            yield Prepared(number, self._work(number))

    def one(self, number: int) -> Work[bytes]:
        """Prepare a piece for who reads here and there."""
        self.single.append(number)
        return self._work(number)

    def _work(self, number: int) -> Work[bytes]:
        return lambda: b"%d" % number**2

    def pieces(self, cost: Callable[[int], int] = lambda _: 1, *, ahead: int = 4, most: int = 50) -> Batches[bytes]:
        """Return the pieces."""
        return Batches([cost(at) for at in range(self.count)], self.batch, self.one, ahead=ahead, most=most)


def test_a_forward_reader_is_served_in_batches() -> None:
    squares = Squares(500)
    pieces = squares.pieces()
    held = []
    for number in range(500):
        assert pieces[number] == pieces[number] == b"%d" % number**2
        held.append(len(pieces._made))
    assert sorted(squares.prepared) == list(range(500))
    assert squares.prepared != list(range(500))
    assert [len(numbers) for numbers in squares.ranges[:4]] == [4, 16, 50, 50]
    assert max(held) <= 2 * 50
    assert not squares.single


@given(
    count=st.integers(1, 120),
    seed=st.integers(0, 9),
    costs=st.integers(0, 30),
    ahead=st.integers(1, 9),
    most=st.integers(1, 60),
)
def test_each_piece_is_prepared_once(count: int, seed: int, costs: int, ahead: int, most: int) -> None:
    squares = Squares(count, seed)
    pieces = squares.pieces(lambda at: costs * (at % 3), ahead=ahead, most=most)
    assert [pieces[number] for number in range(count)] == [b"%d" % number**2 for number in range(count)]
    assert sorted(squares.prepared) == list(range(count))
    assert [number for numbers in squares.ranges for number in numbers] == list(range(count))
    for numbers in squares.ranges:
        assert len(numbers) == 1 or sum(costs * (at % 3) for at in numbers) <= most


def test_who_looks_here_and_there_disturbs_nobody() -> None:
    squares = Squares(300)
    pieces = squares.pieces()
    order = random.Random(1)
    for number in range(300):
        assert pieces[number] == b"%d" % number**2
        other = order.randrange(1, 300)
        assert pieces[other] == b"%d" % other**2
    assert sorted(squares.prepared) == list(range(300))
    assert len(squares.single) < 330


def test_who_begins_in_the_middle_starts_no_batch() -> None:
    squares = Squares(300)
    pieces = squares.pieces()
    assert [pieces[number] for number in range(100, 120)] == [b"%d" % number**2 for number in range(100, 120)]
    assert not squares.ranges


def test_who_begins_again_gets_everything_again() -> None:
    squares = Squares(100)
    pieces = squares.pieces()
    for last in (60, 100, 100):
        assert [pieces[number] for number in range(last)] == [b"%d" % number**2 for number in range(last)]


@pytest.mark.parametrize("count", [0, 3])
def test_there_is_nothing_behind_the_last_piece(count: int) -> None:
    pieces = Squares(count).pieces()
    for number in range(count):
        assert pieces[number] == b"%d" % number**2
    with pytest.raises(IndexError):
        pieces[count]


def test_an_error_of_a_work_is_given_to_the_reader_of_its_piece() -> None:
    def batch(numbers: range) -> Iterator[Prepared[bytes]]:
        return (Prepared(number, one(number)) for number in reversed(numbers))

    def one(number: int) -> Work[bytes]:
        def work() -> bytes:
            if number == 3:
                raise UnsupportedError("no three")
            return bytes([number])

        return work

    pieces = Batches([1] * 90, batch, one, ahead=6, most=30)
    assert [pieces[0], pieces[1], pieces[2]] == [b"\0", b"\1", b"\2"]
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="no three"):
            pieces[3]
    assert [pieces[number] for number in range(4, 90)] == [bytes([number]) for number in range(4, 90)]


def test_a_read_that_fails_is_told_and_ends_nothing_else() -> None:
    squares = Squares(200, broken=57)
    pieces = squares.pieces()
    with pytest.raises(CorruptError, match="can't be read"):
        [pieces[number] for number in range(200)]
    assert pieces[100] == b"10000"
    assert pieces[0] == b"0"
    with pytest.raises(CorruptError, match="can't be read"):
        [pieces[number] for number in range(200)]


def test_places_are_sorted_by_where_they_are_copied_from() -> None:
    references = [BytesSource(b"a" * 100), Window(BytesSource(b"b" * 100), 50, 40)]
    segments = [Segment(0, 10, 1, 20), Segment(10, 10, 0, 90), Segment(30, 10, LITERAL, 0), Segment(40, 10, 0, 5)]
    source = SegmentSource(60, segments, references, BytesSource(b"c" * 10))
    assert sorted([0, 5, 10, 25, 33, 40, 55], key=source.near) == [25, 55, 33, 40, 10, 0, 5]
    assert Window(source, 10, 30).near(3) == source.near(13)
    assert source.near(5) - source.near(0) == 5
