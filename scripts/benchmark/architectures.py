"""What all architectures of a build take in one store."""

from __future__ import annotations

from pathlib import Path

from .context import Bench, remove
from .files import tree_size
from .kept import Kept, blobs_of, read_kept, size_of
from .process import run
from .release import architectures_of
from .report import Cell, Column, Report, Table, Target

_REST_LIMIT = 500_000
_REST_LIMIT_OF_ONE = 150_000  # where the build has one architecture
_EDITS = "edits"
_PACKED_LIMIT = 1536  # of a manifest of s390x


def measure(bench: Bench, report: Report) -> None:
    """Put all architectures of the build into one store, and tell what that takes besides the canonical disks."""
    names = architectures_of(bench.release.directory)
    bench.log(f"dehydrate {', '.join(names)} into one store")
    root = bench.place("architectures")
    bench.rehydrator(
        "build", "dehydrate", str(bench.release.directory), str(root), "--arch", "all", "--no-compressed",
        "--jobs", str(bench.settings.cpus), "--allow-unhandled", "--progress", "none",
    )  # fmt: skip
    kept = {name: read_kept(root, name) for name in names}
    rows = [_row(bench, root, name, kept[name]) for name in names]
    everything = [item for held in kept.values() for item in held]
    total, canonicals = tree_size(root), sum(int(row["canonical"] or 0) for row in rows)
    siblings = [item for item in everything if item.sibling]
    others = size_of((item for item in everything if not item.sibling), but=blobs_of(siblings))
    rest = total - canonicals - others
    rows.append({"arch": "store", "canonical": canonicals, "others": others, "rest": rest, "total": total})
    columns = (
        Column("arch", "architecture"),
        Column("canonical", "canonical", "bytes"),
        Column("others", "live and disks of other lineage", "bytes"),
        Column("rest", "all else", "bytes"),
        Column("total", "total", "bytes"),
        Column("edits", "siblings told by edits"),
        Column("packed", "largest manifest of a sibling, zstd -19", "bytes"),
    )
    note = "in the last row shared blobs count once, and all else has the index, stream metadata and extent maps too"
    title = f"One store of {', '.join(names)}, sizes in bytes"
    report.tables.append(Table("architectures", title, columns, rows, [note]))
    what = f"one store of {', '.join(names)}, besides canonicals, live and disks of other lineage"
    report.targets.append(Target(what, _REST_LIMIT if len(names) > 1 else _REST_LIMIT_OF_ONE, rest, "bytes"))
    others_told = sum(item.rung != _EDITS for item in siblings)
    report.targets.append(
        Target("disks of the canonical's lineage that are not told by edits", 0, others_told, "disks")
    )
    packed = {str(row["arch"]): int(row["packed"] or 0) for row in rows[:-1]}
    if "s390x" in packed:
        report.targets.append(Target("largest manifest of s390x, zstd -19", _PACKED_LIMIT, packed["s390x"], "bytes"))
    remove(root)


def _row(bench: Bench, root: Path, arch: str, kept: list[Kept]) -> dict[str, Cell]:
    siblings = [item for item in kept if item.sibling]
    canonical = (root / arch / "canonical.raw.zst").stat().st_size
    others = size_of((item for item in kept if not item.sibling), but=blobs_of(siblings))
    rest = size_of(siblings)
    return {
        "arch": arch,
        "canonical": canonical,
        "others": others,
        "rest": rest,
        "total": canonical + others + rest,
        "edits": f"{sum(item.rung == _EDITS for item in siblings)} of {len(siblings)}",
        "packed": max((_packed(bench, item.path) for item in siblings), default=0),
    }


def _packed(bench: Bench, manifest: Path) -> int:
    target = bench.place("manifest.zst")
    run(["zstd", "-q", "-19", str(manifest), "-o", str(target)])
    return target.stat().st_size
