"""Comparisons with a store: a platform with the canonical, or a file with what the store gives for it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from rehydrator.engines.direct import artifact_source, body_source
from rehydrator.errors import UsageError
from rehydrator.explain.explain import Options, explain
from rehydrator.explain.peel import Container, Opened, opened, take_off
from rehydrator.explain.tree import Report
from rehydrator.layers.table import format_for
from rehydrator.manifest.schema import CANONICAL, EditedDisk, Manifest, Stored
from rehydrator.release.formats import parse_format
from rehydrator.selection import Choice, architectures, choose
from rehydrator.store.files import sha256_file
from rehydrator.store.reader import Store


def platform(store: Store, name: str, arch: str | None, options: Options) -> Report:
    """Compare a platform's disk with the one that it is told from: the canonical of its architecture, mostly."""
    found = architectures(store, arch)
    if len(found) != 1:
        raise UsageError("explain takes one architecture", hint=f"Choose with --arch: {', '.join(found)}")
    (one,) = found
    manifests = choose(store, [one], Choice(disks=(name,)))
    if len(manifests) != 1:
        keys = ", ".join(item.artifact.key for item in manifests)
        raise UsageError(f"platform {name} has several artifacts", hint=f"Name one of: {keys}")
    return explain(_base(store, manifests[0]), from_store(store, manifests[0]), options)


def _base(store: Store, manifest: Manifest) -> Opened:
    """Open the disk that a manifest's edits change; it is the canonical where there are none."""
    arch = manifest.artifact.arch
    named_base = manifest.body.base if isinstance(manifest.body, EditedDisk) else CANONICAL
    if named_base == CANONICAL:
        return Opened(store.arch(arch).canonical.content.name, store.canonical(arch), fetch=_fetch("metal", arch))
    base = store.manifest_by_key(arch, named_base)
    return Opened(base.content.name, body_source(base, store), fetch=_fetch(named_base, arch))


def from_store(store: Store, manifest: Manifest) -> Opened:
    """Open an artifact as the store gives it, without the containers that hold one file each."""
    name = manifest.content.name
    fetch = _fetch(manifest.artifact.key, manifest.artifact.arch)
    if isinstance(manifest.body, Stored) or not manifest.layers:
        bare = take_off(artifact_source(manifest, store), Path(name))
        return Opened(name, bare.source, containers=bare.containers, obstacle=bare.obstacle, fetch=fetch)
    containers: list[Container] = []
    for record in manifest.layers:
        kind = format_for(record)
        if kind.inside != "file":
            break
        containers.append(Container(kind.name, record, kind.layer.describe(record)))
    disk = artifact_source(manifest, store, without=len(containers))
    return Opened(name, disk, containers=tuple(containers), fetch=fetch)


def _fetch(name: str, arch: str) -> str:
    return f"rehydrator rehydrate - --disk {name} --arch {arch}"


def file(store: Store, path: Path, arch: str | None, options: Options) -> Report:
    """Compare a file with what the store gives for the artifact of that name."""
    manifest = find(store, path.name, arch)
    shipped = path.name == manifest.shipped.name
    expected = (manifest.shipped if shipped else manifest.content).sha256
    actual = sha256_file(path)
    if actual == expected:
        words = [f"sha256 match: {actual}"]
    else:
        words = ["sha256 mismatch:", f"  expected {expected}", f"  got      {actual}"]
    stored = replace(from_store(store, manifest), label="the store")
    with opened(path) as given:
        report = explain(stored, replace(given, label="the file"), options, words if actual != expected else ())
    first = report.first or _only_outside(report, shipped)
    digests = words if actual == expected else [*words, f"  first divergence {first}"]
    return msgspec.structs.replace(report, digests=digests, identical=actual == expected)


def _only_outside(report: Report, shipped: bool) -> str:
    """Say where a file differs whose disk is right."""
    if report.container:
        return f"in the container: {report.container[0].field}"
    return "in the compression" if shipped else "in the container"


def find(store: Store, name: str, arch: str | None) -> Manifest:
    """Return the manifest of the artifact whose shipped or rehydrated file has this name, or of its platform."""
    arches = architectures(store, arch) if arch else store.architectures
    manifests = [item for one in arches for item in store.manifests(one)]
    for manifest in manifests:
        if name in (manifest.shipped.name, manifest.content.name):
            return manifest
    likely = [item for item in manifests if _resembles(item, name)]
    if len(likely) == 1:
        return likely[0]
    raise UsageError(
        f"the store has no artifact of the name {name}",
        path=store.name,
        hint="'rehydrator list' shows the names; name the file as it is shipped",
    )


def _resembles(manifest: Manifest, name: str) -> bool:
    """Whether a renamed file still says its platform, architecture and container."""
    identity = manifest.artifact
    stem = f"{identity.platform}.{identity.arch}.{parse_format(identity.format).container}"
    return name in (stem, f"{identity.platform}.{parse_format(identity.format).container}") or f"-{stem}" in name
