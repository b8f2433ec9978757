"""coreos-assembler build directories: ``builds/builds.json`` and ``builds/<id>/<arch>/meta.json``.

Source: coreos-assembler ``src/v1.json`` (meta.json schema) and ``docs/building-fcos.md``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rehydrator.errors import InputError, UsageError
from rehydrator.manifest.schema import Identity
from rehydrator.manifest.text import decode
from rehydrator.release.artifact import Artifact, Release

# Keys of ``images`` that name something other than ``<platform>``: platform, format, role.
_SPECIAL = {
    "live-iso": ("metal", "iso", "disk"),
    "live-kernel": ("metal", "pxe", "kernel"),
    "live-initramfs": ("metal", "pxe", "initramfs"),
    "live-rootfs": ("metal", "pxe", "rootfs"),
}
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


class _Builds(msgspec.Struct, rename="kebab"):
    schema_version: str
    builds: list[_Build]


class CosaBuild(msgspec.Struct, frozen=True):
    """The architectures of a build that are here; ``notes`` say what was left out of them, and why."""

    releases: tuple[Release, ...]
    notes: tuple[str, ...]


def read_builds(directory: Path) -> CosaBuild:
    """Read the newest build below ``directory``, which holds ``builds.json``.

    That lists all architectures, also where those of other machines were not fetched; such are passed over.
    """
    path = directory / "builds.json"
    builds = decode(path.read_bytes(), _Builds, path)
    if not builds.schema_version.startswith("1."):
        raise UsageError("unknown builds.json schema", path=path, expected="1.x", actual=builds.schema_version)
    if not builds.builds:
        raise InputError("lists no build", path=path)
    newest = builds.builds[0]  # coreos-assembler puts the newest build first
    _plain(newest.id, path)
    top = directory / newest.id
    arches = [_plain(arch, path) for arch in newest.arches] or _directories(top)
    here = [arch for arch in arches if (top / arch).is_dir()] or arches  # reading the first says what is wrong
    found = [read_build(top / arch) for arch in here]
    missing = [f"{arch}: builds.json lists it, but it is not here; left out" for arch in arches if arch not in here]
    return CosaBuild(
        tuple(release for build in found for release in build.releases),
        (*missing, *(note for build in found for note in build.notes)),
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


def read_build(directory: Path) -> CosaBuild:
    """Read one architecture's directory, which holds ``meta.json``."""
    path = directory / "meta.json"
    try:
        meta = decode(path.read_bytes(), _Meta, path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    artifacts = tuple(
        _artifact(key, image, meta, directory) for key, image in meta.images.items() if key not in _NOT_RELEASED
    )
    notes = tuple(
        f"{meta.basearch} {key}: not an artifact for download, left out" for key in meta.images if key in _NOT_RELEASED
    )
    return CosaBuild((Release(meta.basearch, meta.buildid, artifacts),), notes)


def _artifact(key: str, image: _Image, meta: _Meta, directory: Path) -> Artifact:
    platform, suffix, role = _SPECIAL.get(key) or (*_platform_and_format(key, image.path, meta.basearch), "disk")
    path = directory / _plain(image.path, directory / "meta.json")
    signature = path.with_name(path.name + ".sig")
    return Artifact(
        identity=Identity(platform, meta.basearch, suffix, role, meta.buildid),
        path=path,
        sha256=image.sha256,
        size=image.size,
        uncompressed_sha256=image.uncompressed_sha256,
        uncompressed_size=image.uncompressed_size,
        signature=signature if signature.is_file() else None,
    )


def _platform_and_format(key: str, name: str, arch: str) -> tuple[str, str]:
    """Tell platform and format from ``<name>-<id>-<key>.<arch>.<suffix>``, as stream metadata spells them."""
    _, found, suffix = name.rpartition(f".{arch}.")
    if not found:
        suffix = name.partition(".")[2]
    return ("metal", f"4k.{suffix}") if key == "metal4k" else (key, suffix)
