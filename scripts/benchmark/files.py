"""Files of the benchmark: decompressed to sparse copies, digested, counted.

Decompression runs as a program of its own: the memory of a process that starts others counts as theirs (the kernel
takes over the peak of the process that called vfork), so that the benchmark itself has to stay small.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from .errors import BenchError
from .process import run

_PIECE = 1 << 20
_BLOCK = 1 << 16
_ZEROS = bytes(_BLOCK)


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    match path.suffix:
        case ".xz":
            return stack.enter_context(lzma.open(path))
        case ".gz":
            return cast(IO[bytes], stack.enter_context(gzip.open(path)))
        case ".zip":
            archive = stack.enter_context(zipfile.ZipFile(path))
            return stack.enter_context(archive.open(archive.infolist()[0]))
        case suffix:
            raise BenchError(f"{path}: unknown compression {suffix}")


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece


def unpack(source: Path, target: Path) -> str:
    """Write the content of ``source`` to the sparse file ``target``; return its digest."""
    package = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-m", f"{package.name}.files", str(source), str(target)]
    return run(command, env=environment).output.strip()


def decompress(source: Path, target: Path, sha256: str) -> None:
    """Unpack ``source`` and compare the digest of its content."""
    if unpack(source, target) != sha256:
        raise BenchError(f"{source}: its content does not have the sha256 of the release metadata")


def _decompress(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with ExitStack() as stack:
        stream = _opened(source, stack)
        out = stack.enter_context(target.open("wb"))
        for piece in _pieces(stream):
            digest.update(piece)
            for at in range(0, len(piece), _BLOCK):
                block = piece[at : at + _BLOCK]
                if block == _ZEROS:
                    out.seek(len(block), os.SEEK_CUR)
                else:
                    out.write(block)
        out.truncate()
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_size(root: Path) -> int:
    """Return the sum of the sizes of all files below ``root``."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


if __name__ == "__main__":
    print(_decompress(Path(sys.argv[1]), Path(sys.argv[2])))
