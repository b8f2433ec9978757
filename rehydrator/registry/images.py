"""Releases in registries and OCI layouts: the disk images of an image index, brought for dehydration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import msgspec

from rehydrator.errors import InputError, UnsupportedError
from rehydrator.manifest.schema import File
from rehydrator.manifest.text import decode
from rehydrator.oci.c_oci import Descriptor, Index, Manifest, MediaType
from rehydrator.oci.digest import sha256_of
from rehydrator.oci.disk_images import DiskImage, Member, disk_images
from rehydrator.oci.reference import Reference
from rehydrator.oci.store_image import SeenConfig
from rehydrator.progress import Progress
from rehydrator.registry.access import Access
from rehydrator.registry.opening import shelf_of
from rehydrator.registry.origin import RemoteOrigin
from rehydrator.registry.place import Source, source_of
from rehydrator.release.artifact import Artifact, Inputs, Release


@contextmanager
def fetched_release(
    reference: Reference, access: Access, wanted: Callable[[str], bool], progress: Progress
) -> Iterator[Inputs]:
    """Give the release that an index holds, for the architectures that are wanted.

    The files stay where they are as long as this context: those of a layout in it, those of a registry in the cache,
    where an interrupted run is gone on with. Raises UnsupportedError for what is no index, and InputError for one that
    has no disk image or leaves out what has to be known of one.
    """
    with (
        closing(source_of(reference, access, progress)) as source,
        closing(RemoteOrigin(source, shelf_of(reference), progress)) as origin,
    ):
        images, notes = _look(source, reference, wanted)
        files = [File(item.name, item.layer.size, sha256_of(item.layer.digest, source.name)) for item in images]
        origin.bring(files)
        found: dict[str, list[Artifact]] = {}
        for item, file in zip(images, files, strict=True):
            artifact = Artifact(item.identity, origin.local(file), file.sha256, file.size, title=file.name)
            found.setdefault(item.identity.arch, []).append(artifact)
        yield Inputs(
            tuple(Release(arch, items[0].identity.release, tuple(items)) for arch, items in found.items()), notes=notes
        )


def _look(
    source: Source, reference: Reference, wanted: Callable[[str], bool]
) -> tuple[list[DiskImage], tuple[str, ...]]:
    """Read the index, and the manifests that it leads to."""
    top, data = source.resolve()
    if top.media_type != MediaType.INDEX:
        raise UnsupportedError(
            "is no index of disk images", path=source.name, expected=MediaType.INDEX.value, actual=top.media_type[:90]
        )
    index = decode(data, Index, source.name)
    members = [_member(item, source) for item in index.manifests if item.media_type == MediaType.MANIFEST]
    images = disk_images(index, members, reference.tag, wanted, source.name)
    if not images:
        arches = ", ".join(sorted({item.arch for item in members if item.format})) or "none"
        raise InputError("the index has no disk image that is wanted", path=source.name, actual=f"those for {arches}")
    others = [item for item in members if not item.format and wanted(item.arch)]
    return images, tuple(f"{item.arch} {item.entry.digest}: a container image, left out" for item in others)


def _member(entry: Descriptor, source: Source) -> Member:
    manifest = decode(source.read(entry), Manifest, source.name)
    member = Member(entry, manifest)
    if member.format or manifest.config.media_type != MediaType.CONFIG:
        return member
    config = decode(source.read(manifest.config), SeenConfig, source.name)
    return msgspec.structs.replace(member, labels=dict(config.labels))
