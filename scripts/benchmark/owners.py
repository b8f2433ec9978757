"""How long it takes to tell what each byte of an ext4 image with many files belongs to."""

from __future__ import annotations

from pathlib import Path

from .context import Bench, median, remove
from .errors import BenchError
from .process import Usage, run
from .report import Target
from .times import Findings

_SECONDS = 2
_DIRECTORIES, _FILES = 250, 200
_TOTAL = _DIRECTORIES * _FILES
_SIZE_STEP = 47  # bytes; files of one to three blocks
_SCRIPT = Path(__file__).with_name("owners_once.py")


def measure(bench: Bench, found: Findings) -> None:
    """Make an image with 50,000 files and map all of it, in a new process each time."""
    image = _image(bench)
    command = [bench.python, str(_SCRIPT), str(image)]

    def action() -> Usage:
        outcome = run(command, env=bench.environment)
        if int(outcome.output) < _TOTAL:
            raise BenchError("the owner map has fewer places than the image has files")
        return outcome.usage

    name = f"owner map of an ext4 image with {_TOTAL:,} files"
    measured = bench.alternate({name: action})[name]
    found.add(name, measured, image.stat().st_size)
    found.targets.append(Target(name, _SECONDS, median(measured).wall, "s"))
    remove(image)


def _image(bench: Bench) -> Path:
    tree, image = bench.place("owners"), bench.place("owners.img")
    for directory in range(_DIRECTORIES):
        path = tree / f"directory-{directory}"
        path.mkdir(parents=True)
        for index in range(_FILES):
            (path / f"file-{index}").write_bytes(b"x" * (index * _SIZE_STEP))
    run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-N", str(_TOTAL * 5 // 4), "-d", str(tree), str(image), "700M"])
    remove(tree)
    return image
