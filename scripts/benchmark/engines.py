"""Both engines on every disk that is told by edits: one start of a machine for all, then each replay."""

from __future__ import annotations

import json
from pathlib import Path

from .context import Bench
from .process import attempt
from .report import Column, Report, Table, Target

_SECONDS = 10
_SCRIPT = Path(__file__).with_name("engines_once.py")
_COLUMNS = (
    Column("artifact", "artifact"),
    Column("direct", "direct, s", "seconds"),
    Column("guestfs", "guestfs, s", "seconds"),
    Column("made", "sectors made by the driver"),
    Column("sectors", "of"),
)


def measure_engines(bench: Bench, report: Report) -> None:
    """Add the table of both engines; once, since a replay in a machine takes seconds."""
    store, _ = bench.store()
    keys = []
    for artifact in bench.release.artifacts:
        entry = store.entry(artifact)
        if entry["rung"] == "edits" and json.loads(store.manifest(artifact).read_bytes())["body"]["edits"]:
            keys.append(str(entry["key"]))
    bench.log(f"engines: {len(keys)} disks in one machine")
    outcome = attempt([bench.python, str(_SCRIPT), str(store.root), store.arch, *keys], env=bench.environment)
    if outcome.failure:
        report.notes.append(f"engines left out: {outcome.failure}")
        return
    started, measured = json.loads(outcome.output)
    rows = [dict(zip((column.key for column in _COLUMNS), row, strict=True)) for row in measured]
    for row in rows:
        report.targets.append(Target(f"{row['artifact']}: replay by guestfs", _SECONDS, row["guestfs"], "s"))
    notes = [
        f"the machine started in {started:.1f} s, once for all; the disks of both engines are the same",
        "wall time of one replay each, without copying and hashing; the order is direct, then guestfs",
    ]
    report.tables.append(Table("engines", "Replay by both engines", _COLUMNS, rows, notes))
