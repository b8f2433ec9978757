"""Times and peak memory of rehydrator and of what a person would run instead.

A new measurement is one more :class:`Experiment` in :data:`TIMES`.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .context import Bench, Store, median, ratio, remove
from .errors import BenchError
from .files import sha256_of
from .process import Usage, run
from .release import Artifact
from .report import Cell, Column, Report, Table, Target
from .tools import missing

_GIB = 1 << 30
_MIB = 1 << 20
_DEHYDRATE_SECONDS = 240
_RATIO = 1.5
_MEMORY_MIB = 256
_SAME = 1.1  # "no longer", within what two runs of the same thing differ by
_MEANINGFUL = 64 * _MIB  # below this, starting Python is most of what is measured
# What coreos-assembler compresses with. gzip and zip also tell a file's time, which that of a copy is not.
_COMPRESSORS = {".xz": ("xz", "-9", "-T2", "-c"), ".gz": ("gzip", "-6", "-c"), ".zip": ("zip", "-9jq", "-")}
_SMALL, _LARGE = 10 * _GIB, 100 * _GIB


@dataclass
class Findings:
    """What the experiments add: rows of times, targets, notes, and the peak memory of each rehydration."""

    rows: list[dict[str, Cell]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def add(self, what: str, usages: Sequence[Usage], size: int) -> None:
        """Add a row: ``size`` is the number of bytes that come out (dehydrate: that go in)."""
        middle = median(usages)
        self.rows.append(
            {
                "what": what,
                "runs": len(usages),
                "wall": middle.wall,
                "least": min(usage.wall for usage in usages),
                "most": max(usage.wall for usage in usages),
                "cpu": middle.cpu,
                "memory": middle.memory,
                "size": size,
                "rate": size / _MIB / middle.wall,
            }
        )

    def compare(self, what: str, limit: float, measured: float, size: int) -> None:
        """Add a ratio of times as a target, or as a note where ``size`` bytes are too few for it to mean much."""
        if size >= _MEANINGFUL:
            self.targets.append(Target(what, limit, measured))
            return
        self.notes.append(f"{what}: {measured:.2f}; no verdict, {size} bytes tell nothing but how long a start takes")


@dataclass(frozen=True)
class Experiment:
    """One group of measurements; ``needs`` are programs."""

    name: str
    summary: str
    run: Callable[[Bench, Findings], None]
    needs: tuple[str, ...] = ()


def _dehydrate(bench: Bench, found: Findings) -> None:
    _, made = bench.store()
    by_content = []
    for number in range(bench.settings.dehydrations):
        bench.log(f"dehydrate --no-compressed, run {number + 1} of {bench.settings.dehydrations}")
        target = bench.place("by-content")
        by_content.append(bench.dehydrate(bench.release.directory, target, "--no-compressed"))
        remove(target)
    size = sum(item.content_size for item in bench.release.artifacts)
    found.add("dehydrate --no-compressed, proof included", by_content, size)
    found.add("dehydrate, which also compresses each file once more", made, size)
    found.targets.append(
        Target("dehydrate --no-compressed, proof included", _DEHYDRATE_SECONDS, median(by_content).wall, "s")
    )


def _to_file(bench: Bench, store: Store, disk: str, expected: Path) -> Callable[[], Usage]:
    """Rehydrate into a directory; the file is removed outside of the measured time."""

    def action() -> Usage:
        out = bench.place("rehydrated")
        usage = bench.rehydrator(
            "rehydrate", str(out), "--disk", disk, "--store", str(store.root), "--progress", "none"
        ).usage
        sizes = [item.stat().st_size for item in out.iterdir()]
        remove(out)
        if sizes != [expected.stat().st_size]:
            raise BenchError(f"rehydrating {disk} gave files of {sizes} bytes")
        return usage

    return action


def _to_pipe(bench: Bench, store: Store, disk: str) -> Callable[[], Usage]:
    words = ("rehydrate", "-", "--disk", disk, "--store", str(store.root), "--progress", "none")
    return lambda: bench.rehydrator(*words, into=["sh", "-c", "exec cat >/dev/null"]).usage


def _unpack_and_sum(path: Path, expected: str) -> Callable[[], Usage]:
    def action() -> Usage:
        outcome = run(["zstd", "-q", "-d", "-c", str(path)], ["sha256sum"])
        if expected not in outcome.output:
            raise BenchError(f"{path.name} decompresses to another sha256")
        return outcome.usage

    return action


def _qemu_img(bench: Bench, raw: Path, expected: str, found: Findings) -> Callable[[], Usage]:
    def action() -> Usage:
        out = bench.place("converted.qcow2")
        converted = run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(out)])
        summed = run(["sha256sum", str(out)])
        remove(out)
        note = "qemu-img here does not give the published sha256: another version made the release"
        if expected not in summed.output and note not in found.notes:
            found.notes.append(note)
        return converted.usage.then(summed.usage)

    return action


def _openstack(bench: Bench, found: Findings) -> None:
    store, _ = bench.store()
    disk, metal = bench.release.need("openstack"), bench.release.need("metal")
    content = bench.content(disk)
    raw, packed = bench.place("openstack.raw"), bench.place("openstack.qcow2.zst")
    bench.log("prepare openstack")
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(content), str(raw)])
    run(["zstd", "-q", "-19", "-T0", str(content), "-o", str(packed)])
    size, digest = disk.content_size, disk.content_sha256
    usages = bench.alternate(
        {
            "rehydrate openstack to a file": _to_file(bench, store, disk.key, content),
            "rehydrate openstack to a pipe": _to_pipe(bench, store, disk.key),
            "qemu-img convert of its raw, sha256sum": _qemu_img(bench, raw, digest, found),
            "zstd -d of the same size | sha256sum": _unpack_and_sum(packed, digest),
            "zstd -d of the canonical | sha256sum": _unpack_and_sum(store.canonical, metal.content_sha256),
        }
    )
    to_file, to_pipe, converted, same, canonical = usages.values()
    for name, measured in usages.items():
        found.add(name, measured, metal.content_size if measured is canonical else size)
    found.compare("rehydrate to a file / zstd -d of the same size | sha256sum", _RATIO, ratio(to_file, same), size)
    found.notes += [
        f"rehydrate to a file / zstd -d of the canonical | sha256sum: {ratio(to_file, canonical):.2f}",
        f"rehydrate to a file / qemu-img convert + sha256sum: {ratio(to_file, converted):.2f}",
        f"rehydrate to a pipe / zstd -d of the same size | sha256sum: {ratio(to_pipe, same):.2f}",
        "rehydrate flushes the file to the disk before it renames it and compares the sha256; "
        "qemu-img convert and sha256sum flush nothing",
    ]
    found.memory += [usage.memory for usage in (*to_file, *to_pipe)]
    remove(raw)
    remove(packed)


def _and_sum(command: Sequence[str], expected: str, found: Findings) -> Callable[[], Usage]:
    def action() -> Usage:
        outcome = run(command, ["sha256sum"])
        note = f"{command[0]} here does not give the published sha256, with these options"
        if expected not in outcome.output and note not in found.notes:
            found.notes.append(note)
        return outcome.usage

    return action


def _again_and_sum(bench: Bench, store: Store, artifact: Artifact) -> Callable[[], Usage]:
    words = ("rehydrate", "-", "--compressed", "--disk", artifact.key, "--store", str(store.root), "--progress", "none")

    def action() -> Usage:
        outcome = bench.rehydrator(*words, into=["sha256sum"])
        if artifact.sha256 not in outcome.output:
            raise BenchError(f"rehydrating {artifact.path.name} gave another sha256")
        return outcome.usage

    return action


def _compressed(bench: Bench, found: Findings) -> None:
    """One file of each compression, beside the program that compressed it, which has the content as a file."""
    store, _ = bench.store()
    for suffix, program in _COMPRESSORS.items():
        exact = [
            item
            for item in bench.release.artifacts
            if item.peeled and item.path.suffix == suffix and store.entry(item)["compressed"] == "exact"
        ]
        if not exact:
            found.notes.append(f"no {suffix} file of this release is exact")
            continue
        artifact = min(exact, key=lambda item: item.content_size)
        command = [*program, str(bench.content(artifact))]
        usages = bench.alternate(
            {
                f"rehydrate --compressed {artifact.key} ({suffix}) | sha256sum": _again_and_sum(bench, store, artifact),
                f"{' '.join(program)} of its content | sha256sum": _and_sum(command, artifact.sha256, found),
            }
        )
        for name, measured in usages.items():
            found.add(name, measured, artifact.content_size)
        ours, theirs = usages.values()
        cpu = statistics.median(one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True))
        what = f"rehydrate --compressed / {program[0]} of {artifact.key}"
        found.notes.append(f"{what}: {ratio(ours, theirs):.2f}, in CPU time {cpu:.2f}")


def virtual_size(path: Path) -> int:
    """Return the size of the disk in a qcow2 file."""
    with path.open("rb") as stream:
        head = stream.read(32)
    if head[:4] != b"QFI\xfb":
        raise BenchError(f"{path.name}: not a qcow2 file")
    size: int = struct.unpack_from(">Q", head, 24)[0]
    return size


def _resized(bench: Bench, source: Path, size: int, target: Path) -> None:
    """Make a qcow2 with the same disk, cut or grown to ``size`` bytes; only zeros are cut off."""
    raw = bench.place("resized.raw")
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(source), str(raw)])
    os.truncate(raw, size)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(target)])
    remove(raw)


def _build_of(bench: Bench, directory: Path, files: dict[str, Path]) -> None:
    """Write a build directory with uncompressed ``files`` by artifact key."""
    release = bench.release
    home = directory / release.build / release.arch
    home.mkdir(parents=True)
    images = {}
    for key, path in files.items():
        name = f"bench-{release.build}-{key}.{release.arch}.{path.suffix.removeprefix('.')}"
        (home / name).symlink_to(path)
        images[key] = {"path": name, "sha256": sha256_of(path), "size": path.stat().st_size}
    meta = {key: value for key, value in release.meta.items() if key in {"buildid", "coreos-assembler.basearch"}}
    (home / "meta.json").write_text(json.dumps({**meta, "images": images}))
    builds = {"schema-version": "1.0.0", "builds": [{"id": release.build, "arches": [release.arch]}]}
    (directory / "builds.json").write_text(json.dumps(builds))


def _sibling_source(bench: Bench) -> Artifact:
    return bench.release.get("ibmcloud") or bench.release.need("openstack")


def _virtual_size(bench: Bench, found: Findings) -> None:
    """Compare the 100 GiB ibmcloud disk with a copy of itself cut to 10 GiB, both from one store."""
    origin = _sibling_source(bench)
    source = bench.content(origin)
    disks = bench.place("siblings")
    disks.mkdir()
    bench.log(f"prepare siblings of {origin.key}")
    files = {"metal": bench.content(bench.release.need("metal"))}
    large = source
    if virtual_size(source) != _LARGE:
        large = disks / "large.qcow2"
        _resized(bench, source, _LARGE, large)
        found.notes.append(f"no disk of 100 GiB in this release: {origin.key} was grown to it")
    small = disks / "small.qcow2"
    _resized(bench, source, _SMALL, small)
    files |= {"ibmcloud": large, "sibling": small}
    build, root = bench.place("siblings-build"), bench.place("siblings-store")
    _build_of(bench, build, files)
    bench.dehydrate(build, root, "--level", "3")
    store = Store(root, bench.release.arch, {})
    usages = bench.alternate(
        {
            "rehydrate ibmcloud, 100 GiB virtual": _to_file(bench, store, "ibmcloud", large),
            "rehydrate its sibling, 10 GiB virtual": _to_file(bench, store, "sibling", small),
        }
    )
    big, little = usages.values()
    for (name, measured), path in zip(usages.items(), (large, small), strict=True):
        found.add(name, measured, path.stat().st_size)
    what = "100 GiB / 10 GiB virtual ('no longer', with 10 % for noise)"
    found.compare(what, _SAME, ratio(big, little), small.stat().st_size)
    found.memory += [usage.memory for usage in (*big, *little)]
    for path in (disks, build, root):
        remove(path)


def _verify(bench: Bench, found: Findings) -> None:
    store, _ = bench.store()
    words = ("verify", "--store", str(store.root), "--jobs", str(bench.settings.cpus), "--progress", "none")
    usages = bench.alternate({"verify all": lambda: bench.rehydrator(*words).usage})
    found.add("verify all", usages["verify all"], sum(item.content_size for item in bench.release.artifacts))


TIMES = (
    Experiment("dehydrate", "making the store, proof included", _dehydrate),
    Experiment("openstack", "openstack.qcow2 to a file and to a pipe, and what else gives it", _openstack,
               ("qemu-img", "zstd", "sha256sum")),
    Experiment("compressed", "one file of each compression as shipped, and its compressor alone", _compressed,
               ("xz", "gzip", "zip", "sha256sum")),
    Experiment("virtual-size", "a disk of 100 GiB and its sibling of 10 GiB", _virtual_size, ("qemu-img",)),
    Experiment("verify", "all files and artifacts of the store", _verify),
)  # fmt: skip

_COLUMNS = (
    Column("what", "measurement"),
    Column("runs", "runs"),
    Column("wall", "wall s", "seconds"),
    Column("least", "min", "seconds"),
    Column("most", "max", "seconds"),
    Column("cpu", "CPU s", "seconds"),
    Column("memory", "peak RSS", "mebibytes"),
    Column("size", "bytes", "bytes"),
    Column("rate", "MiB/s", "rate"),
)


def measure_times(bench: Bench, experiments: Sequence[Experiment], report: Report) -> None:
    """Run experiments and add their table and targets."""
    found = Findings()
    for experiment in experiments:
        absent = missing(experiment.needs)
        if absent:
            report.notes.append(f"{experiment.name} left out: {', '.join(absent)} not installed (--install)")
            continue
        experiment.run(bench, found)
    if found.memory:
        found.targets.append(Target("peak memory of rehydrate", _MEMORY_MIB, max(found.memory) / _MIB, "MiB"))
    if experiments:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        found.notes.append(f"peak memory below {own} MiB can't be told: that is the benchmark's own, see docs")
        title = "Times: medians of whole processes, warm cache; peak memory of the largest process"
        report.tables.append(Table("times", title, _COLUMNS, found.rows, found.notes))
    report.targets += found.targets
