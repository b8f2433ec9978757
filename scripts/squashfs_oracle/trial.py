"""One random tree: a version of mksquashfs packs it, the layer takes that apart and puts it together again."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rehydrator.disk.extents import Extent, chunks
from rehydrator.disk.source import FileSource, Source
from rehydrator.errors import RehydratorError, UnsupportedError
from rehydrator.fs.squashfs.owner import SquashfsFilesystem
from rehydrator.layers.squashfs import SquashfsLayer
from rehydrator.layers.squashfs_record import SquashfsRecord

from .trees import TreeMaker

_LAYER = SquashfsLayer()
# What kinds of blocks there are, and which of them are compressed
_LAYOUT = (
    *("-no-fragments", "-always-use-fragments", "-no-duplicates", "-no-exports", "-no-xattrs", "-no-sparse", "-nopad"),
    *("-noI", "-noD", "-noF", "-noX"),
)
_SIZES = ("4K", "16K", "64K", "128K", "256K", "1M")  # no dictionary of 8 KiB or more fits into the first of them
_COMPRESSORS: dict[str, tuple[str, ...]] = {
    "gzip": ("", "-Xcompression-level 1", "-Xcompression-level 6 -Xwindow-size 12", "-Xstrategy filtered"),
    "xz": ("", "-Xbcj x86", "-Xbcj x86,arm,powerpc", "-Xdict-size 50%", "-Xbcj x86 -Xdict-size 8K"),
    "zstd": ("", "", "-Xcompression-level 3", "-Xcompression-level 19"),
}


@dataclass(frozen=True)
class Scenario:
    """What is random about a trial: the tree's seed, and how it is packed."""

    seed: int
    compressor: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What the layer made of a file system; ``problem`` is empty where every byte came back.

    ``refused`` says why the layer left it alone, and ``patched`` how many of ``blocks`` its encoder gave otherwise.
    """

    problem: str = ""
    refused: str = ""
    encoder: str = ""
    patched: int = 0
    blocks: int = 0


def scenario(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    choice = random.Random(seed)
    compressor = choice.choice(tuple(_COMPRESSORS))
    options = choice.choice(_COMPRESSORS[compressor]).split()
    if choice.random() < 0.6:
        options += ["-b", choice.choice(_SIZES[1:] if "-Xdict-size" in options else _SIZES)]
    options += choice.sample(_LAYOUT, choice.choice((0, 0, 1, 2, 3)))
    return Scenario(seed, compressor, tuple(options))


def run_trial(case: Scenario, mksquashfs: Sequence[str | Path], work: Path) -> Outcome:
    """Make the tree, pack it, and compare. Raises CalledProcessError where mksquashfs fails."""
    tree, image = work / "tree", work / "image"
    tree.mkdir()
    TreeMaker(case.seed, tree).make()
    words = [*mksquashfs, tree, image, "-quiet", "-no-progress", "-noappend", "-comp", case.compressor, *case.options]
    subprocess.run(list(map(str, words)), check=True, capture_output=True)
    with FileSource(image) as outer:
        try:
            return _compared(outer, image, tree)
        except UnsupportedError as error:
            return Outcome(refused=str(error))
        except RehydratorError as error:
            return Outcome(problem=str(error))


def _compared(outer: Source, image: Path, tree: Path) -> Outcome:
    unwrapped = _LAYER.unwrap(outer, image)
    again = _LAYER.wrap(unwrapped.inner, unwrapped.record, unwrapped.tables)
    different = again.size != outer.size or any(
        bytes(again.read(*piece)) != bytes(outer.read(*piece)) for piece in chunks([Extent(0, outer.size)])
    )
    record: SquashfsRecord = unwrapped.record
    problem = "other bytes come back" if different else _other_files(SquashfsFilesystem(outer, image), tree)
    patched = record.patched
    return Outcome(problem, "", record.encoder, patched.chunks if patched else 0, patched.of if patched else 0)


def _other_files(filesystem: SquashfsFilesystem, tree: Path) -> str:
    """Return what of the tree is not read from the file system, empty for nothing."""
    paths = {f"/{path.relative_to(tree)}": path for path in tree.rglob("*")}
    if set(filesystem.nodes) != {"/", *paths}:
        return "other names are read"
    for name, path in paths.items():
        node = filesystem.nodes[name]
        if node.mode != path.lstat().st_mode:
            return f"another mode of {name} is read"
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        else:
            continue
        if filesystem.content(node, node.size) != content:
            return f"other content of {name} is read"
    return ""
