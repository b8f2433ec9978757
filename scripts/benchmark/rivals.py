"""The rivals: other ways to keep a release small, each as its users would do it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .context import Bench, remove
from .files import tree_size, unpack
from .process import Command, Usage, attempt, run
from .release import Artifact
from .report import Cell, mebibytes

_XDELTA_WINDOW = 1 << 30


@dataclass(frozen=True)
class Measured:
    """Cells by artifact and column, the whole, and what has to be said about them."""

    cells: Mapping[str, Mapping[str, Cell]]
    total: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Encoded:
    """One artifact by one rival: ``size`` is None where it failed, for the reason in ``failure``."""

    size: int | None
    usage: Usage
    failure: str = ""
    remark: str = ""


def _encode(bench: Bench, out: Path, *commands: Command, limit: float | None) -> _Encoded:
    """Run commands one after the other; the last one has written ``out``, which is measured and removed."""
    total: Usage | None = None
    try:
        for command in commands:
            outcome = attempt(command, limit=limit)
            total = total.then(outcome.usage) if total else outcome.usage
            if outcome.failure:
                bench.log(f"{out.name}: {outcome.failure}")
                return _Encoded(None, total, outcome.failure)
        assert total is not None
        bench.log(f"{out.name}: {out.stat().st_size} bytes, {total.wall:.1f} s")
        return _Encoded(out.stat().st_size, total)
    finally:
        remove(out)


def _packed(bench: Bench, artifact: Artifact, level: str, *options: str) -> _Encoded:
    """Compress what a rival's deltas are taken from; without a time limit, as its total means nothing without."""
    out = bench.place(f"{artifact.key}.packed")
    command = ["zstd", "-q", level, *options, str(bench.content(artifact)), "-o", str(out)]
    return _encode(bench, out, command, limit=None)


def _summary(
    bench: Bench, column: str, encoded: Mapping[str, _Encoded], kept: Sequence[Artifact], notes: Sequence[str]
) -> Measured:
    """Add up: where a rival failed or made more of a file than was shipped, the shipped file counts."""
    cells: dict[str, Mapping[str, Cell]] = {item.key: {column: item.size} for item in kept}
    total = sum(item.size for item in kept)
    remarks: dict[str, list[str]] = {}
    for artifact in bench.release.artifacts:
        found = encoded.get(artifact.key)
        if found is None:
            continue
        stopped = "stopped" if found.failure.startswith("stopped") else "refused"
        cells[artifact.key] = {column: stopped if found.size is None else found.size}
        total += artifact.size if found.size is None else min(found.size, artifact.size)
        for remark in filter(None, (found.failure, found.remark)):
            remarks.setdefault(remark, []).append(artifact.key)
    seconds = sum(item.usage.wall for item in encoded.values())
    memory = max(item.usage.memory for item in encoded.values())
    cost = f"{column}: encoding took {seconds:.0f} s in all, peak memory {mebibytes(memory)}"
    more = [f"{column}, {', '.join(keys)}: {remark}" for remark, keys in remarks.items()]
    return Measured(cells, total, [*notes, cost, *more])


def prototype(bench: Bench, column: str) -> Measured:
    """Measure the prototype of 2021, as its ``build dehydrate`` kept a release; see docs/benchmark.md."""
    release = bench.release
    qemu, rootfs = release.need("qemu"), release.get("live-rootfs")
    bases = {"live-iso": rootfs} if rootfs else {}

    def batch(artifact: Artifact) -> _Encoded:
        base = bench.content(bases.get(artifact.key, qemu))
        delta, out = bench.place(f"{artifact.key}.batch"), bench.place(f"{artifact.key}.batch.zst")
        with _bare(bench, artifact) as bare:
            encode = ["rsync", "-I", "--no-whole-file", f"--only-write-batch={delta}", str(bare.path), str(base)]
            try:
                pack = ["zstd", "-q", "-7", str(delta), "-o", str(out)]
                found = _encode(bench, out, encode, pack, limit=bench.settings.limit)
            finally:
                remove(delta)
                remove(delta.with_name(f"{delta.name}.sh"))
        return _Encoded(found.size, found.usage, found.failure, bare.remark)

    kept = [item for item in release.artifacts if item.live and item.key not in bases]
    others = [item for item in release.artifacts if item is not qemu and item not in kept]
    encoded = bench.each(others, batch)
    encoded[qemu.key] = _packed(bench, qemu, "-10")
    note = (
        f"{column}: the qemu qcow2 with zstd -10, every other disk as a batch against it with zstd -7, the ISO as one "
        "against rootfs.img, the other live files as they are"
    )
    return _summary(bench, column, encoded, kept, [note])


@dataclass(frozen=True)
class _Bare:
    """What the prototype takes of an artifact, and what it can't give back of it."""

    path: Path
    remark: str = ""


@contextmanager
def _bare(bench: Bench, artifact: Artifact) -> Iterator[_Bare]:
    """Take off what the prototype takes off: gzip, the tar of an OVA, and the compression of a VMDK."""
    path, remark = bench.content(artifact), ""
    made: list[Path] = []

    def add(suffix: str) -> Path:
        made.append(bench.place(f"{artifact.key}.{suffix}"))
        return made[-1]

    try:
        if path.suffix == ".gz":
            path, packed = add("unpacked"), path
            unpack(packed, path)
            remark = "decompressed first, so that the sha256 of the shipped file can't match"
        if artifact.container == "ova":
            archive, path = path, add("vmdk")
            run(["sh", "-c", 'exec tar -xOf "$1" --wildcards "*.vmdk" >"$2"', "sh", str(archive), str(path)])
        if artifact.container in {"ova", "vmdk"}:
            disk, path = path, add("converted")
            run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(path)])
            remark = "its VMDK converted to qcow2 first, so that the sha256 can't match"
        yield _Bare(path, remark)
    finally:
        for item in made:
            remove(item)


def _against_metal(
    bench: Bench, column: str, encode: Callable[[Artifact, Path, Path], Sequence[str]], note: str
) -> Measured:
    """Measure a delta tool: metal raw with zstd -19, everything else as a delta from it."""
    metal = bench.release.need("metal")
    base = bench.content(metal)

    def delta(artifact: Artifact) -> _Encoded:
        out = bench.place(f"{artifact.key}.{column}.delta")
        return _encode(bench, out, encode(artifact, base, out), limit=bench.settings.limit)

    encoded = bench.each((item for item in bench.release.artifacts if item is not metal), delta)
    encoded[metal.key] = _packed(bench, metal, "-19", "-T0", "--long=27")
    return _summary(bench, column, encoded, [], [f"{column}: metal raw with zstd -19 --long=27, {note}"])


def zstd_patch(bench: Bench, column: str) -> Measured:
    """Measure ``zstd --patch-from``."""

    def encode(artifact: Artifact, base: Path, out: Path) -> Sequence[str]:
        options = ["-q", "-19", "--long=31", f"--patch-from={base}"]
        return ["zstd", *options, str(bench.content(artifact)), "-o", str(out)]

    note = "all else --patch-from=metal --long=31 -19; it refuses a file or base above 2 GB"
    return _against_metal(bench, column, encode, note)


def available_memory() -> int:
    """Return how many bytes can be had without swapping: the page cache counts, as it can be given up."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def xdelta3(bench: Bench, column: str) -> Measured:
    """Measure xdelta3 with a source window of 1 GiB, or what half of the available memory allows."""
    window = _XDELTA_WINDOW
    free = available_memory() // bench.settings.jobs
    while window > free // 2 and window > 1 << 26:
        window //= 2

    def encode(artifact: Artifact, base: Path, out: Path) -> Sequence[str]:
        return ["xdelta3", "-e", "-q", "-9", f"-B{window}", "-s", str(base), str(bench.content(artifact)), str(out)]

    return _against_metal(bench, column, encode, f"all else -9 -B{window} from it")


def casync(bench: Bench, column: str) -> Measured:
    """Measure a casync chunk store, metal first: for each artifact its index and the chunks that it adds."""
    root = bench.place("casync")
    root.mkdir()
    chunks = root / "store.castr"
    encoded: dict[str, _Encoded] = {}
    held = 0
    metal = bench.release.need("metal")
    for artifact in [metal, *(item for item in bench.release.artifacts if item is not metal)]:
        index = root / f"{artifact.key}.caibx"
        command = ["casync", "make", f"--store={chunks}", str(index), str(bench.content(artifact))]
        outcome = attempt(command, limit=bench.settings.limit)
        size = tree_size(root)
        encoded[artifact.key] = _Encoded(None if outcome.failure else size - held, outcome.usage, outcome.failure)
        bench.log(f"{index.name}: {outcome.failure or f'{size - held} bytes, {outcome.usage.wall:.1f} s'}")
        held = size
    remove(root)
    found = _summary(bench, column, encoded, [], [f"{column}: one chunk store for all contents, indices included"])
    return Measured(found.cells, held, found.notes)
