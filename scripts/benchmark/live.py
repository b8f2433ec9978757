"""Rehydrating the live ISO, beside mksquashfs on the tree of its root file system with the options that made it."""

from __future__ import annotations

import functools
import hashlib
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

_SAME = 1.05  # "no slower", within what two runs of the same thing differ by
_HEAD = 1 << 16  # of rootfs.img: the root file system is the first file in it
_SCRIPT = Path(__file__).with_name("squashfs_once.py")
_MADE = "root.squashfs"
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
    store, _ = bench.store()
    if store.entry(rootfs)["rung"] != "relocated":
        found.notes.append("live left out: our store keeps rootfs.img whole")
        return
    work = bench.place("live")
    work.mkdir()
    bench.log("unpack the live root file system and the osmet files")
    make = _mksquashfs(bench, rootfs, work)
    packed = _osmets(rootfs, work)
    actions = {
        "rehydrate the live ISO to a pipe": _iso(bench, iso),
        "its root file system alone": _root(bench, rootfs),
        "mksquashfs of the same tree": lambda: run(make).usage,
    }
    if packed:
        xz = [["xz", "-9", "-c", str(item)] for item in packed]
        actions["xz -9 of what its osmet files hold"] = lambda: _one_by_one(xz)
    usages = bench.alternate(actions)
    made, size = (work / _MADE).stat().st_size, tree_size(work)
    sizes = (iso.size, made, made, sum(item.stat().st_size for item in packed))
    for (name, measured), comes_out in zip(usages.items(), sizes, strict=False):
        found.add(name, measured, comes_out)
    whole, root, tree, *osmets = usages.values()
    both = [one.then(other) for one, other in zip(tree, *osmets, strict=True)] if osmets else tree
    for what, ours, theirs in (
        ("live root file system / mksquashfs", root, tree),
        ("live ISO / mksquashfs, then xz -9", whole, both),
    ):
        cpu = statistics.median(one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True))
        found.compare(f"{what}: CPU time", _SAME, cpu, size)
        found.compare(f"{what}: wall time", _SAME, ratio(ours, theirs), size)
    found.notes.append(f"live ISO / mksquashfs alone: wall time {ratio(whole, tree):.2f}")
    remove(work)


def _mksquashfs(bench: Bench, rootfs: Artifact, work: Path) -> list[str]:
    """Unpack the root file system; return the command that makes it of the tree."""
    tree, out = work / "tree", work / _MADE
    place = ["-o", str(_offset(rootfs)), str(rootfs.path)]
    run(["unsquashfs", "-quiet", "-no-progress", "-d", str(tree), *place])
    said = run(["unsquashfs", "-s", *place]).output
    options = [
        word for name, told in _OPTIONS.items() if (value := re.search(told, said, re.M)) for word in (name, value[1])
    ]
    cpus = str(bench.settings.cpus)
    return ["mksquashfs", str(tree), str(out), "-noappend", "-quiet", "-no-progress", *options, "-processors", cpus]


def _offset(rootfs: Artifact) -> int:
    with rootfs.path.open("rb") as stream:
        offset = stream.read(_HEAD).find(_SQUASHFS)
    if offset < 0:
        raise BenchError(f"{rootfs.path}: its root file system is no squashfs")
    return offset


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


def _root(bench: Bench, rootfs: Artifact) -> Callable[[], Usage]:
    store, _ = bench.store()
    command = [bench.python, str(_SCRIPT), str(store.root), store.arch, str(store.entry(rootfs)["key"])]

    def action() -> Usage:
        outcome = run(command, env=bench.environment)
        sha256, size = outcome.output.split()
        with rootfs.path.open("rb") as stream:
            stream.seek(_offset(rootfs))
            if hashlib.sha256(stream.read(int(size))).hexdigest() != sha256:
                raise BenchError("the live root file system came out otherwise")
        return outcome.usage

    return action


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
