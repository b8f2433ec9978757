"""Fetching a part of a file over HTTP(S), from servers that know ranges and from others.

Source: RFC 9110, section 14.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Protocol

import msgspec

from rehydrator.errors import MismatchError
from rehydrator.transport.client import Answer
from rehydrator.transport.fetch import Getter

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ACCEPT = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


class Body(Protocol):
    """What comes of a file."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes as they come."""
        ...


class Part(msgspec.Struct, frozen=True):
    """Bytes ``start`` to ``stop`` of a file, which are on their way, and which nobody has compared yet."""

    start: int
    stop: int
    body: Body


@contextmanager
def part_of(client: Getter, url: str, start: int, stop: int, size: int) -> Iterator[Part]:
    """Give bytes ``start`` to ``stop`` of a file of ``size`` bytes, or all of it where the server knows no ranges.

    The whole file is asked for without a range. Raises MismatchError for an answer that is neither, and for a file of
    another size.
    """
    headers = {} if (start, stop) == (0, size) else {"Range": f"bytes={start}-{stop - 1}"}
    with client.get(url, headers, _ACCEPT) as answer:
        match answer.status:
            case HTTPStatus.PARTIAL_CONTENT:
                found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
                if found is None or (int(found[1]), int(found[2]) + 1) != (start, stop):
                    raise MismatchError(
                        "the server sends another range than asked for",
                        path=url,
                        expected=f"bytes {start}-{stop - 1}",
                        actual=repr(answer.header("Content-Range")[:80]),
                    )
                _check_size(answer, found[3], size)
                yield Part(start, stop, answer)
            case HTTPStatus.OK:
                _check_size(answer, answer.header("Content-Length"), size)
                yield Part(0, size, answer)
            case _:
                raise MismatchError("the server refuses the range", path=url, actual=f"status {answer.status}")


def _check_size(answer: Answer, told: str, size: int) -> None:
    if told.isdecimal() and int(told) != size:
        raise MismatchError("has another size", path=answer.url, expected=size, actual=told)
