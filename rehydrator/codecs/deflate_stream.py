"""Deflate encoders by name for long streams: zlib's, and GNU gzip's own, which no library has.

``zlib-6`` is the library at a level (see :mod:`rehydrator.codecs.deflate`). ``gzip-9`` is the deflate of the program
GNU gzip, whose bytes zlib gives at no setting; it is made by running that program, after comparing its answer to a
test text with the known one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import IO, TypeAlias

from rehydrator.codecs import deflate
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.errors import UnsupportedError

# Turns content, in pieces, into a raw deflate stream, in pieces.
StreamEncoder: TypeAlias = Callable[[Iterable[Data]], Generator[bytes, None, None]]

PROGRAM = "gzip"
_GZIP_HEADER = 10  # bytes before the stream, written with -n
_GZIP_TRAILER = 8
# CRC-32 of the test text as GNU gzip 1.12 compresses it, by level
_KNOWN_ANSWERS = {
    1: 0xAB2E65D2,
    2: 0xC33D3A49,
    3: 0xAE7BAF48,
    4: 0x361DCD37,
    5: 0x9B514E6C,
    6: 0x06E989D5,
    7: 0x09BFDF4D,
    8: 0x452D223F,
    9: 0x452D223F,
}
NAMES = (*deflate.NAMES, *(f"gzip-{level}" for level in range(1, 10)))


@functools.cache
def stream_encoder(name: str) -> StreamEncoder:
    """Return the encoder of this name; raises UnsupportedError where this machine does not have it."""
    family, _, level = name.rpartition("-")
    if family == "zlib":
        return functools.partial(_by_zlib, deflate.encoder(name))
    if name not in NAMES:
        raise UnsupportedError("unknown deflate encoder", actual=repr(name[:40]), expected=", ".join(sorted(NAMES)))
    program = shutil.which(PROGRAM)
    if program is None:
        raise UnsupportedError(f"the deflate encoder {name} is the program GNU gzip", hint="Install the package gzip")
    found = functools.partial(_by_gzip, program, int(level))
    if zlib.crc32(b"".join(found([deflate.test_text()]))) != _KNOWN_ANSWERS[int(level)]:
        raise UnsupportedError(
            f"the deflate encoder {name} is needed, but {program} compresses otherwise",
            hint="Install GNU gzip; others, such as pigz, give other bytes",
        )
    return found


def _by_zlib(encoder: deflate.Encoder, content: Iterable[Data]) -> Generator[bytes, None, None]:
    stream = zlib.compressobj(encoder.level, zlib.DEFLATED, -deflate.MAX_WBITS, deflate.DEFAULT_MEM_LEVEL)
    for piece in content:
        if packed := stream.compress(piece):
            yield packed
    yield stream.flush()


def _by_gzip(program: str, level: int, content: Iterable[Data]) -> Generator[bytes, None, None]:
    """Run gzip; a thread feeds it. Both end when the iterator is closed."""
    environment = {key: value for key, value in os.environ.items() if key != "GZIP"}
    command = [program, "-n", "-c", f"-{level}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    assert process.stdout is not None
    feeder = _Feeder(content, process.stdin)
    try:
        yield from _without_frame(process.stdout)
        feeder.thread.join()
        if feeder.error is not None:
            raise feeder.error
        if process.wait() != 0:
            raise UnsupportedError(f"{program} failed", actual=f"exit code {process.returncode}")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
        feeder.thread.join()


class _Feeder:
    """Writes content to a pipe in a thread; ``error`` is what stopped it but for a reader that went away."""

    def __init__(self, content: Iterable[Data], pipe: IO[bytes]) -> None:
        self._content = content
        self._pipe = pipe
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="gzip", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for piece in self._content:
                self._pipe.write(piece)
        except BrokenPipeError:
            pass
        except BaseException as error:  # among them one that cancels the run; the reader raises it
            self.error = error
        finally:
            with contextlib.suppress(OSError):
                self._pipe.close()


def _without_frame(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what lies between gzip's header and trailer."""
    stream.read(_GZIP_HEADER)
    held = b""
    while piece := stream.read(CHUNK):
        held += piece
        if len(held) > _GZIP_TRAILER:
            yield held[:-_GZIP_TRAILER]
            held = held[-_GZIP_TRAILER:]
