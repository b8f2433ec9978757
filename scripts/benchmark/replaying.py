"""How long it takes to replay the edits of each disk, besides copying and hashing."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from .context import Bench
from .process import run
from .report import Cell, Column, Report, Table, Target

_MILLISECONDS = 10
_SCRIPT = Path(__file__).with_name("replay_once.py")


def measure_replay(bench: Bench, report: Report) -> None:
    """Add the table of replay times; the target is that over a raw base, which is replay and nothing else."""
    store, _ = bench.store()
    metal = bench.content(bench.release.need("metal"))
    rows: list[dict[str, Cell]] = []
    for artifact in bench.release.artifacts:
        entry = store.entry(artifact)
        manifest = json.loads(store.manifest(artifact).read_bytes())
        if entry["rung"] != "edits" or manifest["body"]["base"] != "canonical" or not manifest["body"]["edits"]:
            continue
        if any(edit["op"] == "blocks" for edit in manifest["body"]["edits"]):
            continue  # literal bytes come from blobs: not what is measured here
        bench.log(f"replay {artifact.key}")
        command = [bench.python, str(_SCRIPT), str(store.root), store.arch, str(entry["key"]), str(metal)]
        taken = [json.loads(run(command, env=bench.environment).output) for _ in range(bench.settings.runs)]
        raw, packed = (statistics.median(item) * 1000 for item in zip(*taken, strict=True))
        rows.append({"artifact": artifact.key, "edits": len(manifest["body"]["edits"]), "raw": raw, "store": packed})
        report.targets.append(Target(f"{artifact.key}: replay of the edits", _MILLISECONDS, raw, "ms"))
    columns = (
        Column("artifact", "artifact"),
        Column("edits", "edits"),
        Column("raw", "over a raw base, ms", "seconds"),
        Column("store", "over the store, ms", "seconds"),
    )
    notes = [
        "wall time of the first replay in a process, opening files left out; over the store it includes decoding the "
        "frames of the canonical that the edits look into, which a rehydration decodes again when it copies them"
    ]
    report.tables.append(Table("replay", "Replay of the edits, besides copying and hashing", columns, rows, notes))
