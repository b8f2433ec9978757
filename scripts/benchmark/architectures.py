"""What all architectures of a build take in one store."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .context import Bench, remove
from .files import tree_size
from .process import run
from .release import architectures_of
from .report import Cell, Column, Report, Table, Target

_REST_LIMIT = 500_000
_REST_LIMIT_OF_ONE = 150_000  # where the build has one architecture
_EDITS = "edits"
_PACKED_LIMIT = 1536  # of a manifest of s390x
# Disks whose file systems were made anew, and the live ISO, which metadata calls a disk.
_OTHER_LINEAGE = ("metal.4k.", "metal.iso.", "qemu-secex.")


@dataclass(frozen=True)
class _Kept:
    """A manifest of the store, and the sizes of the blobs that it needs by their names."""

    path: Path
    rung: str
    blobs: dict[str, int]

    @property
    def sibling(self) -> bool:
        """Whether it is of a disk made from the image that the canonical was made from."""
        return self.path.name.endswith(".disk.json") and not self.path.name.startswith(_OTHER_LINEAGE)


def measure(bench: Bench, report: Report) -> None:
    """Put all architectures of the build into one store, and tell what that takes besides the canonical disks."""
    names = architectures_of(bench.release.directory)
    bench.log(f"dehydrate {', '.join(names)} into one store")
    root = bench.place("architectures")
    bench.rehydrator(
        "build", "dehydrate", str(bench.release.directory), str(root), "--arch", "all", "--no-compressed",
        "--jobs", str(bench.settings.cpus), "--allow-unhandled", "--progress", "none",
    )  # fmt: skip
    kept = {name: [_read(path) for path in sorted((root / name / "manifests").iterdir())] for name in names}
    rows = [_row(bench, root, name, kept[name]) for name in names]
    everything = [item for held in kept.values() for item in held]
    total, canonicals = tree_size(root), sum(int(row["canonical"] or 0) for row in rows)
    others = _size([item for item in everything if not item.sibling], but=_blobs(everything, siblings=True))
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
    others_told = sum(item.sibling and item.rung != _EDITS for item in everything)
    report.targets.append(
        Target("disks of the canonical's lineage that are not told by edits", 0, others_told, "disks")
    )
    packed = {str(row["arch"]): int(row["packed"] or 0) for row in rows[:-1]}
    if "s390x" in packed:
        report.targets.append(Target("largest manifest of s390x, zstd -19", _PACKED_LIMIT, packed["s390x"], "bytes"))
    remove(root)


def _read(path: Path) -> _Kept:
    document: dict[str, Any] = json.loads(path.read_text())
    blobs = {item["sha256"]: int(item["size"]) for item in document.get("blobs", [])}
    return _Kept(path, document["body"]["rung"], blobs)


def _blobs(kept: Iterable[_Kept], *, siblings: bool) -> frozenset[str]:
    return frozenset(name for item in kept if item.sibling is siblings for name in item.blobs)


def _size(kept: list[_Kept], but: frozenset[str] = frozenset()) -> int:
    """Return what manifests and their blobs take, without the blobs ``but``."""
    blobs = {name: size for item in kept for name, size in item.blobs.items() if name not in but}
    return sum(item.path.stat().st_size for item in kept) + sum(blobs.values())


def _row(bench: Bench, root: Path, arch: str, kept: list[_Kept]) -> dict[str, Cell]:
    siblings = [item for item in kept if item.sibling]
    canonical = (root / arch / "canonical.raw.zst").stat().st_size
    shared = _blobs(kept, siblings=True)
    others, rest = _size([item for item in kept if not item.sibling], but=shared), _size(siblings)
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
