"""What is kept literally of disks that were formatted on their own, by what the bytes belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .context import Bench
from .files import tree_size
from .process import run
from .report import Cell, Column, Report, Table, Target

NAME = "literals"
_SCRIPT = Path(__file__).with_name("literals_once.py")
_SHOWN = 6  # of each disk
_SHARE = 0.01  # of a disk's data
_COLUMNS = (
    Column("artifact", "artifact"),
    Column("owner", "literal bytes of"),
    Column("bytes", "bytes", "bytes"),
    Column("packed", "compressed by themselves", "bytes"),
    Column("release", "of our store, %"),
)


def measure_literals(bench: Bench, report: Report) -> None:
    """Add the table, and a target for each of these disks: what it takes, by the data that it has."""
    store, _ = bench.store()
    command = [bench.python, str(_SCRIPT), str(store.root), store.arch]
    disks: dict[str, dict[str, Any]] = json.loads(run(command, env=bench.environment).output)
    whole = tree_size(store.root)
    rows: list[dict[str, Cell]] = []
    for artifact, told in disks.items():
        owners = sorted(told["owners"], key=lambda item: -int(item["packed"]))
        shown = owners[:_SHOWN]
        if rest := owners[_SHOWN:]:
            total = {name: sum(int(item[name]) for item in rest) for name in ("bytes", "packed")}
            shown.append({"name": f"{len(rest)} others", **total})
        for item in shown:
            share = f"{100 * int(item['packed']) / whole:.2f}"
            rows.append(
                {"artifact": artifact, "owner": item["name"], "bytes": item["bytes"], "packed": item["packed"],
                 "release": share}
            )  # fmt: skip
        kept = int(told["stored"]) / int(told["data"])
        report.targets.append(Target(f"{artifact}: stored / data", _SHARE, kept))
    notes = ["compressed with zstd -19 behind the metadata of the canonical disk, as they are in the store"]
    report.tables.append(Table(NAME, "Literal bytes of disks of other lineage", _COLUMNS, rows, notes))
