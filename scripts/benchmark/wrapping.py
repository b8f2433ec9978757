"""Putting a container around a disk, beside ``qemu-img convert`` of the same disk: time, memory, size of the record."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from .context import Bench, median, ratio, remove
from .errors import BenchError
from .files import sha256_of
from .process import Usage, run
from .report import Cell, Column, Report, Table, Target

_SCRIPT = Path(__file__).with_name("wrap_once.py")
_SAME = 1.1  # "no slower", within what two runs of the same thing differ by
_TWICE = 0.6  # "about twice as fast", of the wall time
_MEMORY_MIB = 200
_VMDK = ("vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic,compat6")
# name: qemu-img's words, the most bytes of the record after zstd, whether two processors should halve the time
_FORMATS: dict[str, tuple[tuple[str, ...], int, bool]] = {
    "qcow2": (("qcow2",), 3 << 10, False),
    "qcow2 -c": (("qcow2", "-c"), 3 << 10, True),
    "vmdk": (_VMDK, 2 << 10, True),
    "vhd": (("vpc", "-o", "subformat=fixed,force_size"), 200, False),
    "vhdx": (("vhdx", "-o", "subformat=dynamic"), 8 << 10, False),
}


def measure_wrap(bench: Bench, report: Report) -> None:
    """Add a row and targets per format, all from the raw metal disk."""
    metal = bench.content(bench.release.need("metal"))
    rows: list[dict[str, Cell]] = []
    for name, (words, limit, parallel) in _FORMATS.items():
        command = ("qemu-img", "convert", "-f", "raw", "-O", *words, str(metal))
        row = _measure(bench, report, name, command, parallel=parallel)
        report.targets.append(Target(f"{name}: record after zstd", limit, float(row["record"] or 0), "bytes"))
        rows.append({"format": name, **row})
    columns = (
        Column("format", "format"),
        Column("wall", "wall s", "seconds"),
        Column("cpu", "CPU s", "seconds"),
        Column("memory", "peak RSS", "mebibytes"),
        Column("their_wall", "qemu-img wall s", "seconds"),
        Column("their_cpu", "qemu-img CPU s", "seconds"),
        Column("record", "record, zstd", "bytes"),
        Column("tables", "tables, zstd", "bytes"),
    )
    notes = ["whole processes, the start of Python included; the raw metal disk is in the page cache"]
    report.tables.append(Table("wrap", "Wrapping a raw disk, and qemu-img convert", columns, rows, notes))


def _measure(bench: Bench, report: Report, name: str, command: Sequence[str], *, parallel: bool) -> dict[str, Cell]:
    made, again, state = bench.place("converted"), bench.place("wrapped"), bench.place("state")
    state.mkdir()
    run([*command, str(made)])
    script = [bench.python, str(_SCRIPT)]
    sizes = json.loads(run([*script, "read", str(made), str(state)], env=bench.environment).output)
    ours = [*script, "write", str(state), command[-1], str(again)]
    run(ours, env=bench.environment)
    if sha256_of(made) != sha256_of(again):
        raise BenchError(f"{name}: wrapping gives other bytes than qemu-img")
    usages = bench.alternate(
        {f"wrap {name}": _fresh(again, lambda: run(ours, env=bench.environment).usage),
         f"qemu-img {name}": _fresh(made, lambda: run([*command, str(made)]).usage)}
    )  # fmt: skip
    for path in (made, again, state):
        remove(path)
    mine, theirs = usages.values()
    cpu = statistics.median(one.cpu / other.cpu for one, other in zip(mine, theirs, strict=True))
    report.targets.append(Target(f"{name}: CPU time of wrapping by that of qemu-img", _SAME, cpu))
    if parallel:
        report.targets.append(Target(f"{name}: wall time of wrapping by that of qemu-img", _TWICE, ratio(mine, theirs)))
    best, other = median(mine), median(theirs)
    report.targets.append(Target(f"{name}: peak memory of wrapping", _MEMORY_MIB, best.memory / (1 << 20), "MiB"))
    return {"wall": best.wall, "cpu": best.cpu, "memory": best.memory, "their_wall": other.wall,
            "their_cpu": other.cpu, "record": sizes["record"], "tables": sizes["tables"]}  # fmt: skip


def _fresh(path: Path, action: Callable[[], Usage]) -> Callable[[], Usage]:
    """Remove what the last run made, outside of the measured time."""

    def run_anew() -> Usage:
        remove(path)
        return action()

    return run_anew
