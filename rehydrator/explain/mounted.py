"""Comparing what nothing here reads by its files, as the drivers of a kernel show them (``explain --mount``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.engines.guestfs.bindings import Handle
from rehydrator.engines.guestfs.machine import DEVICE, Machine
from rehydrator.engines.guestfs.transfer import mount, mounted_tree
from rehydrator.engines.guestfs.tree import DIRECTORY, FILE, SYMBOLIC_LINK, Node, Tree
from rehydrator.errors import RehydratorError
from rehydrator.explain.meaning import MAX_TEXT, meaning, topic, unified
from rehydrator.explain.tree import FileChange
from rehydrator.explain.volumes import Compared, Pair, Start, Volume

_SECTOR = 512
_MAX_TEXTS = 64 << 20  # bytes of one side's changed texts that are held at once; further ones are not shown
_KINDS = {FILE: "file", DIRECTORY: "directory", SYMBOLIC_LINK: "symlink"}
_COMPLAINTS = "dmesg --notime --level emerg,alert,crit,err,warn"
_CONTENT = ("size", "sha256")


def compare(start: Start, pairs: Sequence[Pair], *, patch: bool) -> list[Compared]:
    """Compare pairs of volumes in one machine, each of them as its whole drive; what drivers refuse is in the result.

    Raises RehydratorError where there is no machine.
    """
    size = max(volume.content.size for pair in pairs for volume in pair.volumes)
    with start(size + -size % _SECTOR) as machine:
        return [_compare(machine, pair, patch=patch) for pair in pairs]


def _compare(machine: Machine, pair: Pair, *, patch: bool) -> Compared:
    trees: list[Tree] = []
    refused: list[str] = []
    for volume in (pair.a, pair.b):
        try:
            trees.append(_tree(machine, volume))
        except RehydratorError as error:
            refused.append(f"{volume.image if volume else ''}: {_reason(machine, error)}")
    if refused:
        return Compared("; ".join(refused))
    before, after = (tree.nodes for tree in trees)
    paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    shown = [path for path in paths if _has_text(before.get(path), after.get(path)) and (patch or topic(path) != path)]
    new = _texts(machine, pair.b, shown, after)
    old = _texts(machine, pair.a, shown, before)
    files = [
        _change(path, before.get(path), after.get(path), _Texts(old.get(path), new.get(path)), patch=patch)
        for path in paths
    ]
    return Compared(f"{pair.types()}: read by the kernel's driver, which tells files only", files)


def _tree(machine: Machine, volume: Volume | None) -> Tree:
    if volume is None:
        return Tree({})
    machine.insert(volume.content)
    machine.call(lambda handle: handle.debug("sh", ["dmesg --clear"]))  # what comes now is of this volume
    return mounted_tree(machine, DEVICE)


def _reason(machine: Machine, error: RehydratorError) -> str:
    """Tell why the driver refused a volume: what libguestfs says, and what the kernel complained of first."""
    said = machine.call(lambda handle: handle.debug("sh", [_COMPLAINTS]))  # raises where the machine itself is gone
    machine.call(lambda handle: handle.umount_all())
    words = said.strip().splitlines()
    return f"{error.message} (the kernel: {words[0]})" if words else error.message


def _has_text(*nodes: Node | None) -> bool:
    """Tell whether a file's content differs and may be a text."""
    found = [node for node in nodes if node]
    if not all(node.kind == FILE and node.size <= MAX_TEXT for node in found):
        return False
    return len({node.sha256 for node in nodes if node}) + nodes.count(None) > 1


def _texts(machine: Machine, volume: Volume | None, paths: Sequence[str], nodes: dict[str, Node]) -> dict[str, bytes]:
    """Read files of a volume, as far as there is room for them."""
    wanted = [path for path in paths if path in nodes]
    if volume is None or not wanted:
        return {}

    def read(handle: Handle) -> dict[str, bytes]:
        mount(handle, DEVICE)
        found: dict[str, bytes] = {}
        room = _MAX_TEXTS
        for path in wanted:
            room -= nodes[path].size
            if room >= 0 and handle.is_file(path, followsymlinks=0):  # a name that is no text is shown as another
                found[path] = handle.read_file(path)
        handle.umount_all()
        return found

    machine.insert(volume.content)
    return machine.call(read)


class _Texts(msgspec.Struct, frozen=True):
    """The content of one file on both sides, as far as it was read."""

    old: bytes | None
    new: bytes | None


def _change(path: str, old: Node | None, new: Node | None, texts: _Texts, *, patch: bool) -> FileChange:
    """Tell how a file differs. How many bytes of the disk that are, no driver says."""
    node = new or old
    assert node is not None
    known = (old is None or texts.old is not None) and (new is None or texts.new is not None)
    return FileChange(
        status="M" if old and new else "A" if new else "D",
        path=path,
        kind=_KINDS.get(node.kind, node.kind),
        size_a=old.size if old else None,
        size_b=new.size if new else None,
        bytes=None,
        meaning=list(_words(path, old, new, texts)) if old and new else [],
        diff=unified(path, texts.old, texts.new) if patch and known else [],
    )


def _words(path: str, old: Node, new: Node, texts: _Texts) -> Iterator[str]:
    """Yield what is other in a file that both sides have, a line each."""
    differences = old.differences(new)
    if any(item.name in _CONTENT for item in differences):
        yield from meaning(path, texts.old, texts.new) or ["content"]
    yield from (f"{item.name} {item.before} -> {item.after}" for item in differences if item.name not in _CONTENT)
