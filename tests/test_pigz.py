"""pigz's deflate beside the real program: every level and way, contents around the borders of blocks."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable, Iterator

import pytest

from rehydrator.codecs import deflate_stream, pigz
from rehydrator.disk.extents import Data
from rehydrator.errors import UnsupportedError
from tests.support.compressible import compressible

BLOCK = 128 << 10
SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK, 5 * BLOCK + 77)


def by_program(name: str, data: bytes) -> bytes:
    """Return the stream that the program makes, between header and trailer."""
    _, level, option = f"{name}-".split("-")[:3]
    options = ["-p1"] if option == "p1" else ["-p2", "-i"] if option == "i" else ["-p2"]
    command = ["pigz", "-n", "-c", f"-{level}", *options]
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout[10:-8]


def made(name: str, *pieces: Data) -> bytes:
    return b"".join(deflate_stream.stream_encoder(name)(pieces))


@pytest.mark.oracle
@pytest.mark.parametrize("name", pigz.NAMES)
def test_every_level_and_way(need: Callable[..., None], name: str) -> None:
    need("pigz")
    data = compressible(7, 900_000)
    assert made(name, data) == by_program(name, data)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["pigz-6", "pigz-1-p1", "pigz-9-i"])
@pytest.mark.parametrize("size", SIZES)
def test_borders_of_blocks(need: Callable[..., None], name: str, size: int) -> None:
    need("pigz")
    data = compressible(size, size)
    assert made(name, data) == by_program(name, data)


@pytest.mark.parametrize("name", ["pigz-6", "pigz-1-p1", "pigz-9-i"])
def test_pieces_do_not_matter(name: str) -> None:
    data = compressible(5, 700_000)
    pieces = [data[:1], data[1:300_000], b"", data[300_000:]]
    assert made(name, *pieces) == made(name, data)
    assert zlib.decompress(made(name, data), -15) == data


def test_a_zlib_with_another_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = zlib.compressobj
    monkeypatch.setattr(zlib, "compressobj", lambda level, *rest: real(max(level - 1, 1), *rest))
    for name in ("pigz-6", "pigz-6-p1", "pigz-6-i"):
        with pytest.raises(UnsupportedError, match=f"{name} is needed") as caught:
            pigz.encoder(name)
        assert "zlib-ng" in str(caught.value.hint)


def test_an_error_in_the_content_ends_the_stream() -> None:
    def pieces() -> Iterator[Data]:
        yield bytes(BLOCK)
        raise UnsupportedError("here")

    with pytest.raises(UnsupportedError, match="here"):
        list(pigz.encoder("pigz-6")(pieces()))
