"""docs/report.md tells every cause, every field and every option, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from rehydrator.cli.explain import explain
from rehydrator.explain.causes import Cause
from rehydrator.explain.tree import Change, Evidence, FileChange, Part, Report

TEXT = (Path(__file__).parent.parent / "docs" / "report.md").read_text()


def section(name: str) -> str:
    return re.split(r"^## ", TEXT.split(f"## {name}\n")[1], flags=re.MULTILINE)[0]


def first_column(name: str) -> list[str]:
    rows = re.findall(r"^\| (`[^|]*) \|", section(name), re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def test_causes() -> None:
    assert first_column("Causes") == [cause.value for cause in Cause]


def test_fields() -> None:
    assert first_column("JSON") == list(msgspec.structs.asdict(_empty()))
    for struct in (Part, FileChange, Change, Evidence):
        assert [name for name in struct.__struct_fields__ if f"`{name}`" not in section("JSON")] == []


def _empty() -> Report:
    from tests.test_explain_html import evil_report

    return evil_report()


def test_options() -> None:
    everywhere = {"--store", "--ca", "--plain-http"}  # of all commands that read a store; README and docs/registry.md
    options = {name for parameter in explain.params for name in parameter.opts if name.startswith("--")}
    assert [name for name in options - everywhere if name not in TEXT] == []
