"""Rehydrating the live ISO, beside mksquashfs on the tree of its root file system with the options that made it."""

from __future__ import annotations

import functools
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from .context import Bench, ratio, remove
from .errors import BenchError
from .files import tree_size
from .process import Usage, run
from .release import Artifact
from .times import Findings

_SAME = 1.1  # "no slower", within what two runs of the same thing differ by
_HEAD = 1 << 16  # of rootfs.img: the root file system is the first file in it
_SQUASHFS, _XZ = b"hsqs", b"\xfd7zXZ\0"
_OPTIONS = {
    "-comp": r"^Compression (\w+)",
    "-b": r"^Block size (\d+)",
    "-Xcompression-level": r"compression-level (\d+)",
    "-Xbcj": r"Filters selected: (.*\S)",
}


def measure(bench: Bench, found: Findings) -> None:
    """Make the ISO, and in turn its root file system by mksquashfs and its osmet files' ends by xz."""
    iso, rootfs = bench.release.get("live-iso"), bench.release.get("live-rootfs")
    if iso is None or rootfs is None:
        found.notes.append("live left out: the release has no live ISO and rootfs.img")
        return
    work = bench.place("live")
    work.mkdir()
    bench.log("unpack the live root file system and the osmet files")
    make = _mksquashfs(bench, rootfs, work)
    packed = _osmets(rootfs, work)
    actions = {
        "rehydrate the live ISO to a pipe": _iso(bench, iso),
        "mksquashfs of its root file system": lambda: run(make).usage,
    }
    if packed:
        xz = [["xz", "-9", "-c", str(item)] for item in packed]
        actions["xz -9 of what its osmet files hold"] = lambda: _one_by_one(xz)
    usages = bench.alternate(actions)
    size = tree_size(work)
    for name, measured in usages.items():
        found.add(name, measured, iso.size)
    ours, tree, *osmets = usages.values()
    theirs = [one.then(other) for one, other in zip(tree, *osmets, strict=True)] if osmets else tree
    cpu = statistics.median(one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True))
    found.compare("live ISO: CPU time of rehydrate / of mksquashfs and xz -9", _SAME, cpu, size)
    found.compare("live ISO: wall time of rehydrate / of mksquashfs, then xz -9", _SAME, ratio(ours, theirs), size)
    found.notes.append(f"live ISO: wall time of rehydrate / of mksquashfs alone: {ratio(ours, tree):.2f}")
    remove(work)


def _mksquashfs(bench: Bench, rootfs: Artifact, work: Path) -> list[str]:
    """Unpack the root file system; return the command that makes it of the tree."""
    with rootfs.path.open("rb") as stream:
        offset = stream.read(_HEAD).find(_SQUASHFS)
    if offset < 0:
        raise BenchError(f"{rootfs.path}: its root file system is no squashfs")
    tree, out = work / "tree", work / "root.squashfs"
    place = ["-o", str(offset), str(rootfs.path)]
    run(["unsquashfs", "-quiet", "-no-progress", "-d", str(tree), *place])
    said = run(["unsquashfs", "-s", *place]).output
    options = [
        word for name, told in _OPTIONS.items() if (value := re.search(told, said, re.M)) for word in (name, value[1])
    ]
    cpus = str(bench.settings.cpus)
    return ["mksquashfs", str(tree), str(out), "-noappend", "-quiet", "-no-progress", *options, "-processors", cpus]


def _osmets(rootfs: Artifact, work: Path) -> list[Path]:
    """Return what the xz streams of the osmet files hold, as files."""
    files = work / "files"
    files.mkdir()
    run(["sh", "-c", 'cd "$1" && exec cpio -i --quiet "*.osmet" <"$2"', "sh", str(files), str(rootfs.path)])
    packed = []
    for path in sorted(files.iterdir()):
        offset = path.read_bytes().find(_XZ)
        packed.append(work / f"{path.name}.content")
        run(["sh", "-c", 'tail -c +"$1" "$2" | xz -dc >"$3"', "sh", str(offset + 1), str(path), str(packed[-1])])
    return packed


def _iso(bench: Bench, iso: Artifact) -> Callable[[], Usage]:
    store, _ = bench.store()
    words = ("rehydrate", "-", "--iso", "--store", str(store.root), "--progress", "none")

    def action() -> Usage:
        outcome = bench.rehydrator(*words, into=["sha256sum"])
        if iso.sha256 not in outcome.output:
            raise BenchError("rehydrating the live ISO gave another sha256")
        return outcome.usage

    return action


def _one_by_one(commands: list[list[str]]) -> Usage:
    return functools.reduce(Usage.then, (run(command, keep_output=False).usage for command in commands))
