"""Rehydrating all artifacts of an architecture, beside what their hashes and compressions take alone."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from .context import Bench, median, remove
from .process import Usage, run
from .report import Cell, Column, Report, Table, Target

_RATIO = 1.3
_MEMORY_MIB = 256
_ENCODER_MIB = 700  # of xz -9, which compresses what osmet files hold
_OSMET = '"rung": "osmet"'
_MEANINGFUL_SECONDS = 5
_SCRIPT = Path(__file__).with_name("alone_once.py")
_COLUMNS = (
    Column("what", "what"),
    Column("wall", "wall s", "seconds"),
    Column("cpu", "CPU s", "seconds"),
    Column("memory", "peak RSS", "mebibytes"),
)


def measure_all(bench: Bench, report: Report) -> None:
    """Add the table of ``rehydrate --all``; the target is its CPU time by that of the hashes and compressions alone."""
    store, _ = bench.store()
    words = ("--all", "--arch", store.arch, "--store", str(store.root), "--progress", "none")
    ours: list[Usage] = []
    alone: list[tuple[float, float]] = []
    for number in range(bench.settings.runs + 1):
        bench.log(f"rehydrate --all: {f'run {number} of {bench.settings.runs}' if number else 'warm-up'}")
        out = bench.place("everything")
        usage = bench.rehydrator("rehydrate", str(out), *words).usage
        command = [bench.python, str(_SCRIPT), str(store.root), store.arch, str(out)]
        measured = json.loads(run(command, env=bench.environment).output)
        remove(out)
        if number:
            ours.append(usage)
            alone.append((sum(row[1] for row in measured), sum(row[2] for row in measured)))
    hashes, compressions = (statistics.median(item) for item in zip(*alone, strict=True))
    ratio = statistics.median(usage.cpu / sum(base) for usage, base in zip(ours, alone, strict=True))
    middle = median(ours)
    rows: list[dict[str, Cell]] = [
        {"what": "rehydrate --all", "wall": middle.wall, "cpu": middle.cpu, "memory": middle.memory},
        {"what": "sha256 of all files alone", "cpu": hashes},
        {"what": "compressions of all files alone", "cpu": compressions},
    ]
    notes = [
        "of rehydrate --all whole processes, files written and flushed; of the others what the same sha256 and the "
        "same encoders take for content that is in memory, in the same rounds"
    ]
    report.tables.append(Table("all", "Rehydrating everything", _COLUMNS, rows, notes))
    what = "rehydrate --all: CPU time by that of hashes and compressions alone"
    if hashes + compressions >= _MEANINGFUL_SECONDS:
        report.targets.append(Target(what, _RATIO, ratio))
    else:
        notes.append(f"{what}: {ratio:.2f}; no verdict, the start of Python is much of so little")
    osmets = sum(item.read_text().count(_OSMET) for item in (store.root / store.arch / "manifests").iterdir())
    limit = _MEMORY_MIB + _ENCODER_MIB * min(osmets, bench.settings.cpus)
    report.targets.append(Target("rehydrate --all: peak memory", limit, middle.memory / (1 << 20), "MiB"))
    if osmets:
        notes.append(f"peak memory: {_MEMORY_MIB} MiB, and {_ENCODER_MIB} for an encoder of xz -9 on each processor")
