"""What a benchmark found: tables of raw values that know how to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Cell: TypeAlias = int | float | str | None

SCHEMA = 1


def exact(size: float) -> str:
    """A size with all its digits, grouped."""
    return f"{int(size):,}".replace(",", " ")


def mebibytes(size: float) -> str:
    """A size in MiB."""
    return f"{size / (1 << 20):.0f} MiB"


_SHOW: dict[str, Callable[[float], str]] = {
    "bytes": exact,
    "mebibytes": mebibytes,
    "seconds": lambda value: f"{value:.2f}",
    "rate": lambda value: f"{value:.0f}",
    "ratio": lambda value: f"{value:.3f}",
    "text": str,
}


@dataclass(frozen=True)
class Column:
    """``kind`` is a key of the table above: it says how numbers are shown. Text in a number's place stays text."""

    key: str
    heading: str
    kind: str = "text"

    def show(self, cell: Cell) -> str:
        """Return a cell as text."""
        if cell is None:
            return ""
        return cell if isinstance(cell, str) else _SHOW[self.kind](cell)


@dataclass
class Table:
    """Rows by column key. A key that a row lacks is an empty cell."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: list[dict[str, Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """A figure to reach: ``measured`` has to be at most ``limit``."""

    name: str
    limit: float
    measured: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is reached."""
        return self.measured <= self.limit

    @property
    def verdict(self) -> str:
        """The figure's fate in a word."""
        return "met" if self.met else "MISSED"

    def row(self) -> dict[str, Cell]:
        """Return the row of the table of targets."""
        unit = f" {self.unit}" if self.unit else ""
        return {
            "target": self.name,
            "limit": f"<= {self.limit:g}{unit}",
            "measured": f"{self.measured:.4g}{unit}" if self.unit != "bytes" else f"{exact(self.measured)}{unit}",
            "verdict": self.verdict,
        }


TARGET_COLUMNS = (
    Column("target", "target"),
    Column("limit", "limit"),
    Column("measured", "measured"),
    Column("verdict", "verdict"),
)


@dataclass
class Report:
    """All of one run. ``facts`` are about machine, release and settings."""

    facts: dict[str, str]
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def all_tables(self) -> list[Table]:
        """Return the tables, that of the targets last."""
        if not self.targets:
            return self.tables
        rows = [target.row() for target in self.targets]
        return [*self.tables, Table("targets", "Targets", TARGET_COLUMNS, rows)]
