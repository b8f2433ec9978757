"""Sizes: what each way to keep a release takes, per artifact and in total.

A new way is one more :class:`Method` in :data:`METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import rivals
from .context import Bench
from .files import tree_size
from .process import run
from .release import Artifact
from .report import Cell, Column, Report, Table, Target
from .rivals import Measured
from .tools import missing
from .whole import measure_whole

_PACKED_LIMIT = 1024
_READABLE_LIMIT = 4096
# Not made from the image that all siblings are copies of: formatted on its own.
_OTHER_LINEAGE = frozenset({"metal", "metal4k"})


@dataclass(frozen=True)
class Method:
    """One way to keep a release; ``needs`` are programs. ``columns`` are those that it fills in each row."""

    name: str
    columns: tuple[Column, ...]
    measure: Callable[[Bench], Measured]
    needs: tuple[str, ...] = ()


def _ours(bench: Bench) -> Measured:
    store, _ = bench.store()
    cells: dict[str, Mapping[str, Cell]] = {}
    for artifact in bench.release.artifacts:
        entry = store.entry(artifact)
        cells[artifact.key] = {"store": int(entry["stored_size"]), "rung": str(entry["rung"])}
    note = "ours: metal counts with the canonical; blobs that artifacts share count once in the total"
    return Measured(cells, tree_size(store.root), [note])


def _single(column: str, measure: Callable[[Bench, str], Measured]) -> Callable[[Bench], Measured]:
    return lambda bench: measure(bench, column)


METHODS = (
    Method("store", (Column("store", "ours", "bytes"), Column("rung", "rung")), _ours),
    Method("rsync", (Column("rsync", "2021: rsync", "bytes"),), _single("rsync", rivals.prototype),
           ("rsync", "zstd", "qemu-img")),
    Method("zstd", (Column("zstd", "zstd --patch-from", "bytes"),), _single("zstd", rivals.zstd_patch), ("zstd",)),
    Method("xdelta3", (Column("xdelta3", "xdelta3", "bytes"),), _single("xdelta3", rivals.xdelta3),
           ("xdelta3", "zstd")),
    Method("casync", (Column("casync", "casync", "bytes"),), _single("casync", rivals.casync), ("casync",)),
)  # fmt: skip

_FIRST = (Column("artifact", "artifact"), Column("shipped", "shipped", "bytes"), Column("content", "content", "bytes"))


@dataclass
class _Rows:
    """The table of sizes while it grows by columns."""

    rows: dict[str, dict[str, Cell]]
    total: dict[str, Cell]
    columns: list[Column] = field(default_factory=lambda: list(_FIRST))
    notes: list[str] = field(default_factory=list)
    rivals: dict[str, int] = field(default_factory=dict)

    def add(self, method: Method, measured: Measured) -> None:
        self.columns += method.columns
        for key, cells in measured.cells.items():
            self.rows[key].update(cells)
        self.total[method.columns[0].key] = measured.total
        self.notes += measured.notes
        if method.measure is not _ours:
            self.rivals[method.columns[0].heading] = measured.total


def measure_sizes(bench: Bench, chosen: frozenset[str], report: Report) -> None:
    """Add the table of sizes, with a column for each chosen method whose programs are there, and that of the whole."""
    artifacts = bench.release.artifacts
    methods = [method for method in METHODS if method.name in chosen]
    if not methods:
        return
    rows = _Rows(
        {item.key: {"artifact": item.key, "shipped": item.size, "content": item.content_size} for item in artifacts},
        {
            "artifact": "total",
            "shipped": sum(item.size for item in artifacts),
            "content": sum(item.content_size for item in artifacts),
        },
    )
    for method in methods:
        absent = missing(method.needs)
        if absent:
            report.notes.append(f"{method.name} left out: {', '.join(absent)} not installed (--install)")
            continue
        rows.add(method, method.measure(bench))
    table = Table("sizes", "Sizes in bytes", rows.columns, [*rows.rows.values(), rows.total], rows.notes)
    report.tables.append(table)
    if any(method.measure is _ours for method in methods):
        measure_whole(bench, rows.rivals, report)


def measure_deltas(bench: Bench, report: Report) -> None:
    """Add the table of what each same-lineage disk takes: its manifest compressed, and its blobs."""
    store, _ = bench.store()
    rows: list[dict[str, Cell]] = []
    notes: list[str] = []
    for artifact in bench.release.artifacts:
        if not _same_lineage(artifact, str(store.entry(artifact)["rung"])):
            continue
        manifest, packed = store.manifest(artifact), bench.place("manifest.zst")
        run(["zstd", "-q", "-19", str(manifest), "-o", str(packed)])
        plain, small = manifest.stat().st_size, packed.stat().st_size
        blobs = int(store.entry(artifact)["stored_size"]) - plain
        literal = store.entry(artifact).get("literal_bytes")
        rows.append(
            {
                "artifact": artifact.key,
                "rung": store.entry(artifact)["rung"],
                "manifest": plain,
                "packed": small,
                "blobs": blobs,
                "sum": small + blobs,
                "literal": literal,
            }
        )
        if artifact.container != "raw" and not store.entry(artifact)["layers"]:
            notes.append(f"{artifact.key}: its {artifact.container} container was not taken off, so it has no target")
            continue
        report.targets += [
            Target(f"{artifact.key}: manifest as JSON", _READABLE_LIMIT, plain, "bytes"),
            Target(f"{artifact.key}: manifest + blobs, zstd -19", _PACKED_LIMIT, small + blobs, "bytes"),
        ]
    columns = (
        Column("artifact", "artifact"),
        Column("rung", "rung"),
        Column("manifest", "manifest", "bytes"),
        Column("packed", "manifest, zstd -19", "bytes"),
        Column("blobs", "blobs (zstd -19)", "bytes"),
        Column("sum", "packed + blobs", "bytes"),
        Column("literal", "literal bytes", "bytes"),
    )
    report.tables.append(Table("deltas", "Disks of the canonical's lineage, sizes in bytes", columns, rows, notes))


def _same_lineage(artifact: Artifact, rung: str) -> bool:
    if artifact.live or artifact.key in _OTHER_LINEAGE:
        return False
    return rung == "edits" or artifact.container in {"raw", "qcow2"}
