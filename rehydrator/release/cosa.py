"""coreos-assembler build directories: ``builds/builds.json`` and ``builds/<id>/<arch>/meta.json``.

Source: coreos-assembler ``src/v1.json`` (meta.json schema), ``src/cosalib/builds.py`` (builds.json), ``src/cmd-tag``
(its tags) and ``docs/building-fcos.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from rehydrator.errors import InputError, UsageError
from rehydrator.manifest.schema import Identity
from rehydrator.manifest.text import decode
from rehydrator.release.artifact import Artifact, Inputs, Release
from rehydrator.release.document import read_document

BUILDS = "builds.json"
META = "meta.json"
LATEST = "latest"  # what the newest build is called, on the command line and as a symbolic link beside the builds

# Keys of ``images`` that name something other than ``<platform>``: platform, format, role.
_SPECIAL = {
    "live-iso": ("metal", "iso", "disk"),
    "live-kernel": ("metal", "pxe", "kernel"),
    "live-initramfs": ("metal", "pxe", "initramfs"),
    "live-rootfs": ("metal", "pxe", "rootfs"),
}
_TOLD = 5  # builds that an error names
# The OS content itself; not a file of the release that stream metadata offers for download.
_NOT_RELEASED = frozenset({"ostree", "oci-manifest"})


class _Image(msgspec.Struct, rename="kebab"):
    path: str
    sha256: str
    size: int | None = None
    uncompressed_sha256: str | None = None
    uncompressed_size: int | None = None


class _Meta(msgspec.Struct):
    buildid: str
    basearch: str = msgspec.field(name="coreos-assembler.basearch")
    images: dict[str, _Image] = {}


class _Build(msgspec.Struct):
    id: str
    arches: list[str] = []


class _Tag(msgspec.Struct):
    name: str
    target: str


class _Builds(msgspec.Struct, rename="kebab"):
    schema_version: str
    builds: list[_Build]
    tags: list[_Tag] = []


def read_builds(directory: Path, wanted: str = LATEST) -> Inputs:
    """Read one of the builds below ``directory``, which holds ``builds.json``: by its id, by a tag, or the newest.

    That lists all architectures, also where those of other machines were not fetched; such are passed over. Raises
    UsageError for a build that is not listed.
    """
    path = directory / BUILDS
    builds = decode(read_document(path), _Builds, path)
    if not builds.schema_version.startswith("1."):
        raise UsageError("unknown builds.json schema", path=path, expected="1.x", actual=builds.schema_version)
    if not builds.builds:
        raise InputError("lists no build", path=path)
    build = _find(builds, wanted, path)
    top = directory / _plain(build.id, path)
    arches = [_plain(arch, path) for arch in build.arches] or _directories(top)
    here = [arch for arch in arches if (top / arch).is_dir()] or arches  # reading the first says what is wrong
    found = _joined(read_arch(top / arch) for arch in here)
    missing = [f"{arch}: builds.json lists it, but it is not here; left out" for arch in arches if arch not in here]
    return msgspec.structs.replace(found, notes=(*missing, *found.notes))


def _find(builds: _Builds, wanted: str, path: Path) -> _Build:
    """Return the build of this name; an id wins over a tag, and ``latest`` is always the newest."""
    if wanted == LATEST:
        return builds.builds[0]  # coreos-assembler puts the newest build first
    by_id = {build.id: build for build in builds.builds}
    targets = {tag.name: tag.target for tag in builds.tags}
    if wanted in by_id:
        return by_id[wanted]
    names = ", ".join([LATEST, *targets, *list(by_id)[:_TOLD]]) + (" …" if len(by_id) > _TOLD else "")
    if wanted not in targets:
        raise UsageError(f"has no build or tag {wanted!r}", path=path, hint=f"It has: {names}")
    if targets[wanted] not in by_id:
        raise InputError(f"has a tag {wanted!r} of a build that it does not list", path=path, actual=targets[wanted])
    return by_id[targets[wanted]]


def read_build(directory: Path) -> Inputs:
    """Read all architectures of one build's directory, such as the one that ``latest`` leads to."""
    return _joined(read_arch(directory / arch) for arch in _directories(directory) if is_arch(directory / arch))


def is_arch(directory: Path) -> bool:
    """Whether this is one architecture's directory of a build."""
    return (directory / META).is_file()


def is_build(directory: Path) -> bool:
    """Whether this directory holds those of a build's architectures."""
    return any(is_arch(directory / arch) for arch in _directories(directory))


def _joined(parts: Iterable[Inputs]) -> Inputs:
    found = list(parts)
    return Inputs(
        tuple(release for part in found for release in part.releases),
        notes=tuple(note for part in found for note in part.notes),
    )


def _directories(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error


def _plain(name: str, path: Path) -> str:
    if "/" in name or name in {"", ".", ".."}:
        raise InputError("a name leads out of the build directory", path=path, actual=repr(name))
    return name


def read_arch(directory: Path) -> Inputs:
    """Read one architecture's directory, which holds ``meta.json``."""
    path = directory / META
    meta = decode(read_document(path), _Meta, path)
    artifacts = tuple(
        _artifact(key, image, meta, directory) for key, image in meta.images.items() if key not in _NOT_RELEASED
    )
    notes = tuple(
        f"{meta.basearch} {key}: not an artifact for download, left out" for key in meta.images if key in _NOT_RELEASED
    )
    return Inputs((Release(meta.basearch, meta.buildid, artifacts),), notes=notes)


def _artifact(key: str, image: _Image, meta: _Meta, directory: Path) -> Artifact:
    path = directory / _plain(image.path, directory / META)
    signature = path.with_name(path.name + ".sig")
    return Artifact(
        identity=identity_of(key, _suffix(image.path, meta.basearch), meta.basearch, meta.buildid),
        path=path,
        sha256=image.sha256,
        size=image.size,
        uncompressed_sha256=image.uncompressed_sha256,
        uncompressed_size=image.uncompressed_size,
        signature=signature if signature.is_file() else None,
    )


def _suffix(name: str, arch: str) -> str:
    """Return the suffix of ``<name>-<id>-<key>.<arch>.<suffix>``."""
    _, found, suffix = name.rpartition(f".{arch}.")
    return suffix if found else name.partition(".")[2]


def identity_of(key: str, suffix: str, arch: str, release: str) -> Identity:
    """Return what the image ``key`` of a build is, as stream metadata spells it."""
    if key in _SPECIAL:
        platform, kind, role = _SPECIAL[key]
        return Identity(platform, arch, kind, role, release)
    platform, kind = ("metal", f"4k.{suffix}") if key == "metal4k" else (key, suffix)
    return Identity(platform, arch, kind, "disk", release)
