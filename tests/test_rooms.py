"""HACKING.md names every room, and imports go the way that it says."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
TREE, ORDER = re.findall(
    r"^```\n(.*?)^```$", (ROOT / "HACKING.md").read_text(encoding="utf-8").partition("## Rooms")[2], re.M | re.S
)[:2]
LINES = {room.removesuffix(".py"): at for at, line in enumerate(ORDER.splitlines()) for room in line.split()}
FLOWS, BASE = LINES["flows"], LINES["errors"]
PACKAGE = "rehydrator"


@dataclass(frozen=True)
class Module:
    """A module: its dotted name, the modules that it imports, and those of them that it needs for more than types."""

    name: str
    imports: frozenset[str]
    needs: frozenset[str]

    @property
    def room(self) -> str:
        return self.name.split(".")[1]


@cache
def modules() -> dict[str, Module]:
    """All modules of the program by their names, without those that only start it."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / PACKAGE).rglob("*.py")
    }
    found = {}
    for name in paths.keys() - {PACKAGE, f"{PACKAGE}.__main__"}:
        tree = ast.parse(paths[name].read_text(encoding="utf-8"))
        imports = frozenset(_imported(tree, set(paths)))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body.clear()
        found[name] = Module(name, imports, frozenset(_imported(tree, set(paths))))
    return found


def _imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield from sorted(({name} & known or {node.module} & known) - {PACKAGE})


def test_every_room_and_module_is_described() -> None:
    described = set(re.findall(r"\w+(?:/|\.py)(?= )", "".join(re.findall(r"^  (?:\w+(?:/|\.py) +)+", TREE, re.M))))
    here = {f"{path.name}/" for path in (ROOT / PACKAGE).iterdir() if (path / "__init__.py").exists()}
    assert {name for name in here if name.removesuffix("/") not in LINES} == set()
    here |= {path.name for path in (ROOT / PACKAGE).glob("[!_]*.py")}
    assert described == here - {"errors.py", "binary.py", "progress.py"}


def test_imports_point_downwards() -> None:
    wrong = [
        f"{module.name} imports {name}"
        for module in modules().values()
        for name in sorted(module.imports)
        if not _may(module.room, modules()[name].room)
    ]
    assert wrong == []


def _may(room: str, other: str) -> bool:
    """Tell whether ``room`` may import from ``other``."""
    ours, theirs = LINES.get(room, FLOWS), LINES.get(other, FLOWS)
    return room == other or theirs > ours or theirs == ours in {FLOWS, BASE}


def test_no_modules_need_each_other() -> None:
    """Nor where the import is within a function."""
    graphlib.TopologicalSorter({module.name: module.needs for module in modules().values()}).prepare()
