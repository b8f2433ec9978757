"""A whole release: the bytes of our store and of each rival, by those of its canonical disk compressed."""

from __future__ import annotations

from collections.abc import Mapping

from .context import Bench, Store
from .files import tree_size
from .kept import Kept, blobs_of, read_kept, size_of
from .report import Cell, Column, Report, Table, Target

NAME = "whole"
_LIMIT = 1.05
_COLUMNS = (
    Column("what", "whole release"),
    Column("bytes", "bytes", "bytes"),
    Column("canonical", "/ canonical", "ratio"),
    Column("shipped", "/ shipped metal", "ratio"),
)


def measure_whole(bench: Bench, rivals: Mapping[str, int], report: Report) -> None:
    """Add the table of the whole release; ``rivals`` are their totals in bytes by what they are called."""
    store, _ = bench.store()
    canonical, shipped = store.canonical.stat().st_size, bench.release.need("metal").size
    sizes = {f"as shipped, {len(bench.release.artifacts)} files": sum(item.size for item in bench.release.artifacts)}
    sizes |= {**rivals, "our store": tree_size(store.root)}
    sizes |= {f"  {name}": size for name, size in _shares(store).items()}
    rows: list[dict[str, Cell]] = [
        {"what": name, "bytes": size, "canonical": size / canonical, "shipped": size / shipped}
        for name, size in sizes.items()
    ]
    notes = [
        "/ canonical: by the canonical disk as our store has it compressed; / shipped metal: by the metal raw disk as "
        "the release has it",
        "each rival keeps a file that it can't tell as it was shipped",
    ]
    title = f"{bench.release.arch}: the whole release in bytes"
    report.tables.append(Table(NAME, title, _COLUMNS, rows, notes))
    ratio = tree_size(store.root) / canonical
    report.targets.append(Target("whole release in our store / its canonical disk compressed", _LIMIT, ratio))


def _shares(store: Store) -> dict[str, int]:
    """Return what our store holds by what it is for; blobs that several files need count for the first of them."""
    kept = read_kept(store.root, store.arch)
    kinds: dict[str, list[Kept]] = {
        "other disks, from the image that metal is from": [item for item in kept if item.sibling],
        "disks that were formatted on their own": [item for item in kept if not item.sibling and not item.live],
        "live files": [item for item in kept if item.live],
    }
    shares = {"canonical disk": store.canonical.stat().st_size}
    counted: frozenset[str] = frozenset()
    for name, items in kinds.items():
        shares[name] = size_of(items, but=counted)
        counted |= blobs_of(items)
    shares["index, stream metadata, signatures, maps"] = tree_size(store.root) - sum(shares.values())
    return shares
