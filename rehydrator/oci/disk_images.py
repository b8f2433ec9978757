"""Disk images in an image index, beside the container images of the same release or alone.

Each is an entry whose manifest has the artifact type ``application/vnd.diskimage.<format>`` and the file as its only
layer. ``platform.os`` is the platform, ``platform.architecture`` Go's name of the architecture.

Source: ``cosa import --download`` (https://github.com/coreos/coreos-assembler/pull/4591) and the task build-vm-image of
https://github.com/konflux-ci/build-definitions, which makes such entries; OCI image-spec 1.1, ``image-index.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from rehydrator.errors import InputError, UnsupportedError
from rehydrator.manifest.schema import Identity
from rehydrator.oci.c_oci import Annotation, Descriptor, Index, Manifest
from rehydrator.release.cosa import identity_of
from rehydrator.release.naming import plain_name, read_name, rpm_arch

_TYPE = "application/vnd.diskimage"
_SUFFIXES = {"gzip": "gz"}  # compressions whose names in types are not those in file names
_CONTAINER_OS = "linux"  # what tools write where nobody named a platform
_NAME_LABEL = "com.coreos.osname"
_USUAL_NAME = "coreos"


class Member(msgspec.Struct, frozen=True):
    """An entry of an index and the manifest that it leads to; ``labels`` are those of a container image's config."""

    entry: Descriptor
    manifest: Manifest
    labels: dict[str, str] = {}

    @property
    def format(self) -> str:
        """The file's format, spelled as a suffix; "" for what is no disk image."""
        types = [
            self.entry.artifact_type,
            self.manifest.artifact_type or "",
            self.manifest.config.media_type,
            *(layer.media_type for layer in self.manifest.layers),
        ]
        for name in types:
            rest = name.removeprefix(_TYPE)
            if rest != name and rest[:1] in {".", "+"}:
                return ".".join(_SUFFIXES.get(part, part) for part in rest[1:].replace("+", ".").split("."))
        return ""

    @property
    def arch(self) -> str:
        """The architecture, "" where none is told."""
        return rpm_arch(self.entry.platform.architecture) if self.entry.platform else ""

    @property
    def title(self) -> str:
        """The name of the file, "" where none is told."""
        layers = self.manifest.layers
        return layers[0].annotations.get(Annotation.TITLE, "") if layers else ""

    @property
    def facts(self) -> dict[str, str]:
        """What annotations and labels say; those of the entry count most."""
        return {**self.labels, **(self.manifest.annotations or {}), **self.entry.annotations}


class DiskImage(msgspec.Struct, frozen=True):
    """A disk image of an index: what it is, the name under which it was released, and its blob."""

    identity: Identity
    name: str
    layer: Descriptor


def disk_images(
    index: Index, members: Sequence[Member], tag: str, wanted: Callable[[str], bool], path: Path
) -> list[DiskImage]:
    """Return the disk images of an index for the architectures that are wanted; ``path`` is the index in messages.

    Their release is what ``org.opencontainers.image.version`` says: as an annotation or, of a container image for the
    same architecture, as a label; else ``tag``. A file that is not named as in releases gets such a name.

    Raises InputError where platform, architecture or release are not told, and UnsupportedError for several layers.
    """
    usual = {Annotation.VERSION.value: tag, **(index.annotations or {})}
    by_arch: dict[str, dict[str, str]] = {}
    for member in members:
        by_arch.setdefault(member.arch, {}).update(member.facts if not member.format else {})
    return [
        _disk_image(member, {**usual, **by_arch[member.arch], **member.facts}, path)
        for member in members
        if member.format and (not member.arch or wanted(member.arch))
    ]


def _disk_image(member: Member, facts: Mapping[str, str], path: Path) -> DiskImage:
    where = path / (member.title or member.entry.digest)
    if len(member.manifest.layers) != 1:
        raise UnsupportedError(
            "a disk image in several parts", path=where, expected="one layer", actual=len(member.manifest.layers)
        )
    release, arch = facts[Annotation.VERSION], member.arch
    key = member.entry.platform.os if member.entry.platform else ""
    if key == _CONTAINER_OS:
        key = read_name(member.title).platform
    for what, found in (("platform", key), ("architecture", arch), ("release", release)):
        if not found:
            raise InputError(f"the index does not tell the {what} of a disk image", path=where, hint=_HINTS[what])
    named = read_name(member.title)
    if (named.platform, named.arch) == (key, arch):
        name = member.title
    else:
        name = f"{facts.get(_NAME_LABEL, _USUAL_NAME)}-{release}-{key}.{arch}.{member.format}"
    identity = identity_of(key, member.format, arch, release)
    return DiskImage(identity, plain_name(name, where), member.manifest.layers[0])


_HINTS = {
    "platform": "platform.os of the entry names it",
    "architecture": "platform.architecture of the entry names it",
    "release": f"The annotation {Annotation.VERSION} or a tag names it",
}
