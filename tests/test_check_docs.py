"""docs/check.md tells every check, level, option and field of ``rehydrator check``, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from rehydrator.checks.finding import Check, Finding, Level
from rehydrator.checks.report import CheckReport
from rehydrator.cli.check import check

TEXT = (Path(__file__).parent.parent / "docs" / "check.md").read_text()


def section(name: str) -> str:
    return re.split(r"^## ", TEXT.split(f"## {name}\n")[1], flags=re.MULTILINE)[0]


def first_column(name: str) -> list[str]:
    return re.findall(r"^\| `([^`|]*)` \|", section(name), re.MULTILINE)


def test_checks() -> None:
    assert first_column("Checks") == [item.value for item in Check]


def test_levels() -> None:
    assert [level for level in (Level.WARNING, Level.ERROR) if f"`{level}`" not in TEXT] == []


def test_fields() -> None:
    assert first_column("JSON") == list(CheckReport.__struct_fields__)
    assert [name for name in Finding.__struct_fields__ if f"`{name}`" not in section("JSON")] == []


def test_options() -> None:
    options = {name for parameter in check.params for name in parameter.opts if name.startswith("--")}
    assert [name for name in options if name not in TEXT] == []
