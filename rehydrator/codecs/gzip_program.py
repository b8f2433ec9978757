"""GNU gzip's own deflate, whose bytes no library gives at any setting: made by running the program."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import IO

from rehydrator.codecs.deflate import StreamEncoder, test_text
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.errors import UnsupportedError

PROGRAM = "gzip"
_HEADER = 10  # bytes before the stream, written with -n
_TRAILER = 8
# CRC-32 of the test text as GNU gzip 1.12 compresses it, by level
_KNOWN_ANSWERS = (
    *(0xAB2E65D2, 0xC33D3A49, 0xAE7BAF48, 0x361DCD37, 0x9B514E6C, 0x06E989D5),
    *(0x09BFDF4D, 0x452D223F, 0x452D223F),
)


def encoder(level: int) -> StreamEncoder:
    """Return the program's deflate at a level, after comparing its answer to a test text with the known one.

    Raises UnsupportedError where the program is missing, or another one of that name.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        hint = "Install the package gzip"
        raise UnsupportedError("the deflate encoders called gzip are the program GNU gzip", hint=hint)
    found = functools.partial(_run, program, level)
    if zlib.crc32(b"".join(found([test_text()]))) != _KNOWN_ANSWERS[level - 1]:
        raise UnsupportedError(
            f"the deflate encoder gzip-{level} is needed, but {program} compresses otherwise",
            hint="Install GNU gzip; others, such as pigz, give other bytes",
        )
    return found


def _run(program: str, level: int, content: Iterable[Data]) -> Generator[bytes, None, None]:
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
    stream.read(_HEADER)
    held = b""
    while piece := stream.read(CHUNK):
        held += piece
        if len(held) > _TRAILER:
            yield held[:-_TRAILER]
            held = held[-_TRAILER:]
