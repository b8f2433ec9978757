"""A source that is opened when it is first read."""

from __future__ import annotations

import threading

import pytest

from rehydrator.disk.deferred import Deferred
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import MismatchError, StoreDamagedError


def test_it_is_opened_once_by_many_readers() -> None:
    opened: list[Source] = []
    gate = threading.Barrier(4)

    def make() -> Source:
        opened.append(BytesSource(b"0123456789"))
        return opened[-1]

    source = Deferred(10, make)
    assert (list(source.extents()), opened) == ([Extent(0, 10)], [])
    found: list[bytes] = []

    def read() -> None:
        gate.wait(60)
        found.append(bytes(source.read(3, 4)))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert found == [b"3456"] * 4
    assert len(opened) == 1


def test_another_size_is_damage() -> None:
    with pytest.raises(StoreDamagedError, match="another size") as caught:
        Deferred(11, lambda: BytesSource(b"0123456789")).read(0, 1)
    assert (caught.value.expected, caught.value.actual) == (11, 10)


def test_what_opening_raises_is_raised_by_each_reader() -> None:
    def make() -> Source:
        raise MismatchError("does not fit")

    source = Deferred(10, make)
    for _ in range(2):
        with pytest.raises(MismatchError, match="does not fit"):
            source.read(0, 1)


def test_an_empty_one_is_never_opened() -> None:
    assert list(Deferred(0, lambda: BytesSource(b"")).extents()) == []
