"""How long it takes to make an image that the release does not have, besides copying and hashing."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from .context import Bench
from .process import run
from .report import Cell, Column, Report, Table, Target

_MILLISECONDS = 1000
_FORMATS = ("raw", "qcow2")  # what compresses does so while it is copied
_SCRIPT = Path(__file__).with_name("synthesize_once.py")


def measure_synthesis(bench: Bench, report: Report) -> None:
    """Add a row and a target per format, with the direct engine."""
    store, _ = bench.store()
    rows: list[dict[str, Cell]] = []
    for name in _FORMATS:
        bench.log(f"synthesize {name}")
        command = [bench.python, str(_SCRIPT), str(store.root), store.arch, name]
        taken = [
            json.loads(run([*command, str(bench.place("synthesized"))], env=bench.environment).output)
            for _ in range(bench.settings.runs)
        ]
        made, written = (statistics.median(item) * 1000 for item in zip(*taken, strict=True))
        rows.append({"format": name, "made": made, "written": written})
        report.targets.append(Target(f"synthesize {name}: besides copying and hashing", _MILLISECONDS, made, "ms"))
    columns = (
        Column("format", "format"),
        Column("made", "made, ms", "seconds"),
        Column("written", "copied and hashed, ms", "seconds"),
    )
    notes = ["wall time of the first image in a process, with the direct engine; the start of Python is left out"]
    report.tables.append(Table("synthesize", "An image of a new platform", columns, rows, notes))
