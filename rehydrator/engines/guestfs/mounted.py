"""An independent check of what an artifact means: mounted, is it the canonical disk with what the manifest says?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from rehydrator.disk.source import Source
from rehydrator.engines.direct import base_source, blob_reader, body_source
from rehydrator.engines.guestfs.files import Named, named_files
from rehydrator.engines.guestfs.fsck import Checkers
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.engines.guestfs.tree import Tree
from rehydrator.engines.guestfs.view import View, look
from rehydrator.manifest.schema import CANONICAL, EditedDisk, Manifest
from rehydrator.store.depot import Depot

_SHOWN = 8


class Mounts:
    """Looks at the disks of a store in one machine; each canonical disk is looked at once.

    ``say`` is told what can't be checked.
    """

    def __init__(self, machine: Machine, depot: Depot, say: Callable[[str], None]) -> None:
        self._machine = machine
        self._checkers = Checkers(machine, say)
        self._depot = depot
        self._canonicals: dict[str, View] = {}

    def problems(self, manifest: Manifest) -> list[str]:
        """Tell what is wrong with a disk that the manifest makes by edits, seen mounted; nothing if all is well."""
        named = list(_named(manifest, self._depot))
        base = self._canonical(manifest.artifact.arch)
        return problems(base, self._look(body_source(manifest, self._depot)), named)

    def _canonical(self, arch: str) -> View:
        if arch not in self._canonicals:
            self._canonicals[arch] = self._look(self._depot.canonical(arch))
        return self._canonicals[arch]

    def _look(self, disk: Source) -> View:
        return look(self._machine, disk, self._checkers)


def _named(manifest: Manifest, depot: Depot) -> Iterator[Named]:
    """Yield the files that differ from the canonical disk's: those of the bases first."""
    body = manifest.body
    if not isinstance(body, EditedDisk):
        return
    if body.base != CANONICAL:
        yield from _named(depot.manifest_by_key(manifest.artifact.arch, body.base), depot)
    yield from named_files(base_source(manifest, depot), body.edits, blob_reader(manifest, depot))


def problems(base: View, found: View, named: list[Named]) -> list[str]:
    """Tell what ``found`` has otherwise than ``base``, but for the files that the manifest names, and wrong content."""
    told = list(_problems(base, found, named))
    more = len(told) - _SHOWN
    return told[:_SHOWN] + ([f"and {more} more differences"] if more > 0 else [])


def _problems(base: View, found: View, named: list[Named]) -> Iterator[str]:
    for name in base.volumes.keys() - found.volumes.keys():
        yield f"{name}: partition is missing"
    for name, volume in found.volumes.items():
        if volume.problem:
            yield f"{name}: {volume.problem}"
        before = base.volumes.get(name)
        if before is None:
            yield f"{name}: partition is not in the canonical disk"
            continue
        if (before.type, before.label) != (volume.type, volume.label):
            yield f"{name}: {volume.type} {volume.label!r} instead of {before.type} {before.label!r}"
        files = _expected(volume.tree, (file for file in named if file.partition == name))
        yield from (f"{name}: {text}" for text in _differences(before.tree, volume.tree, files))


def _expected(tree: Tree, named: Iterable[Named]) -> dict[str, bytes | None]:
    """Return the last content that is told of each file, by its path in ``tree``."""
    found: dict[str, bytes | None] = {}
    for file in named:
        path = tree.resolve(file.path)
        if file.content is not None or path not in found:
            found[path] = file.content
    return found


def _differences(before: Tree, after: Tree, named: dict[str, bytes | None]) -> Iterator[str]:
    for path in sorted(before.nodes.keys() | after.nodes.keys()):
        old, new = before.nodes.get(path), after.nodes.get(path)
        content = named.get(path)
        if content is not None:
            if new is None:
                yield f"{path} is missing, but named by the manifest"
            elif new.sha256 != hashlib.sha256(content).hexdigest():
                yield f"{path} has not the content that the manifest tells"
        elif path in named:
            continue
        elif old is None or new is None:
            yield f"{path} is {'missing' if new is None else 'not in the canonical disk'}"
        elif old != new:
            told = (f"{item.name} {item.after} instead of {item.before}" for item in old.differences(new))
            yield f"{path}: {', '.join(told)}"
