"""Putting a container around a disk, beside the program that usually does: time, memory, size of the record."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .context import Bench, median, ratio, remove
from .enlarged import enlarge
from .errors import BenchError
from .files import sha256_of
from .process import Usage, run
from .report import Cell, Column, Report, Table, Target
from .tools import missing

_SCRIPT = Path(__file__).with_name("wrap_once.py")
_SAME = 1.1  # "no slower", within what two runs of the same thing differ by
_TWICE = 0.6  # "about twice as fast", of the wall time
_MEMORY_MIB = 200
_DATA = 512 << 20  # of the disk that is timed: beside it the start of Python is little
_QEMU_IMG = ("qemu-img", "convert", "-f", "raw", "-O")


@dataclass(frozen=True)
class _Format:
    """What is measured of a format; ``words`` come before the raw disk in the rival's command."""

    words: tuple[str, ...]
    record: int  # the most bytes of it, after zstd
    parallel: bool = False  # whether two processors should halve the time

    def command(self, raw: Path, target: Path) -> list[str]:
        """Return the rival's command."""
        if self.words[0] == "tar":
            return [*self.words, str(target), "-C", str(raw.parent), raw.name]
        return [*self.words, str(raw), str(target)]


_FORMATS = {
    "qcow2": _Format((*_QEMU_IMG, "qcow2"), 3 << 10),
    "qcow2 -c": _Format((*_QEMU_IMG, "qcow2", "-c"), 3 << 10, parallel=True),
    "vmdk": _Format(
        (*_QEMU_IMG, "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic,compat6"), 2 << 10, parallel=True
    ),
    "vhd": _Format((*_QEMU_IMG, "vpc", "-o", "subformat=fixed,force_size"), 200),
    "vhdx": _Format((*_QEMU_IMG, "vhdx", "-o", "subformat=dynamic"), 8 << 10),
    "tar": _Format(("tar", "--format=oldgnu", "--sparse", "-cf"), 1 << 10),
}


def measure_wrap(bench: Bench, report: Report) -> None:
    """Add a row and targets per format: records of the raw metal disk, times of one with more data."""
    metal = bench.content(bench.release.need("metal"))
    large = bench.place("large.raw")
    enlarge(metal, large, _DATA)
    rows: list[dict[str, Cell]] = []
    for name, kind in _FORMATS.items():
        if missing([kind.words[0]]):
            report.notes.append(f"wrap {name} left out: {kind.words[0]} not installed (--install)")
            continue
        sizes = _sizes(bench, kind, metal)
        report.targets.append(Target(f"{name}: record after zstd", kind.record, sizes["record"], "bytes"))
        rows.append({"format": name, **_times(bench, report, name, large), **sizes})
    columns = (
        Column("format", "format"),
        Column("wall", "wall s", "seconds"),
        Column("cpu", "CPU s", "seconds"),
        Column("start", "of it the start", "seconds"),
        Column("memory", "peak RSS", "mebibytes"),
        Column("their_wall", "rival's wall s", "seconds"),
        Column("their_cpu", "rival's CPU s", "seconds"),
        Column("their_memory", "rival's peak RSS", "mebibytes"),
        Column("record", "record, zstd", "bytes"),
        Column("tables", "tables, zstd", "bytes"),
    )
    held = large.stat()
    notes = [
        f"times: whole processes; the disk has {held.st_size >> 20} MiB, of which "
        f"{held.st_blocks >> 11} are data, in the page cache: that of metal repeated",
        "record and tables: of the raw metal disk as it is",
        "rival: qemu-img convert, for tar GNU tar",
    ]
    report.tables.append(Table("wrap", "Wrapping a raw disk, and the program that usually does", columns, rows, notes))
    remove(large)


def _sizes(bench: Bench, kind: _Format, raw: Path) -> dict[str, int]:
    """Return what the record and the tables of a wrapped disk take; see ``wrap_once.py``."""
    made, state = bench.place("converted"), bench.place("state")
    state.mkdir()
    sizes = _read(bench, kind, raw, made, state)
    remove(made)
    remove(state)
    return sizes


def _read(bench: Bench, kind: _Format, raw: Path, made: Path, state: Path) -> dict[str, int]:
    run(kind.command(raw, made))
    words = [bench.python, str(_SCRIPT), "read", str(made), str(state)]
    sizes: dict[str, int] = json.loads(run(words, env=bench.environment).output)
    return sizes


def _times(bench: Bench, report: Report, name: str, raw: Path) -> dict[str, Cell]:
    """Measure both after comparing what they write; add the targets."""
    kind = _FORMATS[name]
    made, again, state = bench.place("converted"), bench.place("wrapped"), bench.place("state")
    state.mkdir()
    _read(bench, kind, raw, made, state)
    ours = [bench.python, str(_SCRIPT), "write", str(state), str(raw), str(again)]
    run(ours, env=bench.environment)
    if sha256_of(made) != sha256_of(again):
        raise BenchError(f"{name}: wrapping gives other bytes than {kind.words[0]}")
    usages = bench.alternate(
        {f"wrap {name}": _fresh(again, lambda: run(ours, env=bench.environment).usage),
         f"{kind.words[0]} {name}": _fresh(made, lambda: run(kind.command(raw, made)).usage),
         "start": lambda: run([bench.python, str(_SCRIPT), "start"], env=bench.environment).usage}
    )  # fmt: skip
    for path in (made, again, state):
        remove(path)
    mine, theirs, starts = usages.values()
    rounds = zip(mine, theirs, starts, strict=True)
    cpu = statistics.median((one.cpu - start.cpu) / other.cpu for one, other, start in rounds)
    what = f"{name}: CPU time of wrapping, the start of Python left out, by that of the rival"
    report.targets.append(Target(what, _SAME, cpu))
    if kind.parallel:
        what = f"{name}: wall time of wrapping by that of the rival"
        report.targets.append(Target(what, _TWICE, ratio(mine, theirs)))
    best, other = median(mine), median(theirs)
    report.targets.append(Target(f"{name}: peak memory of wrapping", _MEMORY_MIB, best.memory / (1 << 20), "MiB"))
    return {"wall": best.wall, "cpu": best.cpu, "start": median(starts).cpu, "memory": best.memory,
            "their_wall": other.wall, "their_cpu": other.cpu, "their_memory": other.memory}  # fmt: skip


def _fresh(path: Path, action: Callable[[], Usage]) -> Callable[[], Usage]:
    """Remove what the last run made, outside of the measured time."""

    def run_anew() -> Usage:
        remove(path)
        return action()

    return run_anew
