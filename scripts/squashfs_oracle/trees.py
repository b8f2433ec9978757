"""Random trees of files: of all sizes and kinds, with holes, hard links, duplicates and extended attributes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

_WORDS = 300
_LARGE = 1_500_000
_SPARSE = 24 << 20
_CODE = ("/bin/ls", "/bin/cp", "/bin/tar")  # what filters for code change


class TreeMaker:
    """Fills a directory as a seed says."""

    def __init__(self, seed: int, top: Path) -> None:
        self._random = random.Random(seed)
        self._words = [self._random.randbytes(self._random.randrange(2, 20)) for _ in range(_WORDS)]
        self._top = top
        self._files: list[Path] = []
        self._directories = [top]

    def make(self) -> None:
        """Make some dozens of files, and now and then a directory of hundreds."""
        kinds: tuple[Callable[[Path], None], ...] = (
            *(self._file,) * 8,
            *(self._tail, self._tail, self._sparse, self._hole, self._noise, self._code),
            *(self._copy, self._link, self._symlink, self._special, self._directory, self._directory),
        )
        for number in range(self._random.randrange(1, 60)):
            name = self._random.choice(("f", "a longer name of file ")) + str(number)
            self._random.choice(kinds)(self._random.choice(self._directories) / name)
        if self._random.random() < 0.3:
            self._crowd(self._top / "crowd")
        for path in self._files:
            if self._random.random() < 0.2:
                os.setxattr(path, "user.label", b"system_u:object_r:%s:s0" % self._random.choice((b"usr_t", b"etc_t")))

    def _text(self, size: int) -> bytes:
        made = bytearray()
        while len(made) < size:
            made += b"".join(self._random.choices(self._words, k=2000))
        return bytes(made[:size])

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self._files.append(path)

    def _file(self, path: Path) -> None:
        self._write(path, self._text(int(self._random.random() ** 4 * _LARGE)))

    def _tail(self, path: Path) -> None:
        self._write(path, self._text(self._random.randrange(0, 9000)))

    def _noise(self, path: Path) -> None:
        self._write(path, self._random.randbytes(self._random.randrange(1, 300_000)))

    def _code(self, path: Path) -> None:
        self._write(path, Path(os.path.realpath(self._random.choice(_CODE))).read_bytes()[: 1 << 20])

    def _sparse(self, path: Path) -> None:
        with path.open("wb") as stream:
            stream.truncate(self._random.randrange(1, _SPARSE))
            for _ in range(3):
                stream.seek(self._random.randrange(_SPARSE))
                stream.write(self._text(self._random.randrange(1, 150_000)))
        self._files.append(path)

    def _hole(self, path: Path) -> None:
        with path.open("wb") as stream:
            stream.truncate(self._random.randrange(1, 1_000_000))

    def _copy(self, path: Path) -> None:
        if self._files:
            self._write(path, self._random.choice(self._files).read_bytes())

    def _link(self, path: Path) -> None:
        if self._files:
            os.link(self._random.choice(self._files), path)

    def _symlink(self, path: Path) -> None:
        path.symlink_to("../" + "x" * self._random.randrange(1, 200))

    def _special(self, path: Path) -> None:
        os.mkfifo(path)

    def _directory(self, path: Path) -> None:
        path.mkdir()
        self._directories.append(path)

    def _crowd(self, path: Path) -> None:
        path.mkdir()
        for number in range(self._random.randrange(200, 700)):
            (path / f"one of many files, with a long name, number {number}").write_bytes(b"%d" % number)
