"""Whose records a wished file takes: those of a file that the store holds, or of what today's tools write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.qcow2_record import Qcow2Record
from rehydrator.layers.table import CompressionRecord, LayerRecord
from rehydrator.layers.zip_record import ZipRecord
from rehydrator.manifest.schema import EditedDisk, Manifest
from rehydrator.synthesis.usual import FORMATS, NAME, usual_format, usual_records


class Template(msgspec.Struct, frozen=True):
    """The records around a disk, outermost first; ``like`` is the name, without suffix, that their texts tell."""

    like: str
    records: tuple[LayerRecord, ...]


def template(format_name: str, platform: str, shipped: Iterable[Manifest]) -> Template:
    """Return the template for a format.

    It is that of a shipped file, best the platform's own, else the first without compressed clusters; without any in
    this format it is what today's tools write. Raises UsageError for an unknown format.
    """
    usual = usual_records(format_name)
    others = sorted(shipped, key=lambda item: (item.artifact.platform != platform, _compresses(item)))
    found = (item for item in (_of_file(manifest, format_name, usual) for manifest in others) if item is not None)
    return next(found, Template(NAME, usual))


def default_format(platform: str, shipped: Iterable[Manifest]) -> str:
    """Return the format in which a release ships the platform, or else in which CoreOS usually does."""
    own = [item for item in shipped if item.artifact.platform == platform and _is_disk(item)]
    for name in FORMATS:
        if any(_of_file(item, name, usual_records(name)) is not None for item in own):
            return name
    return usual_format(platform)


def _of_file(manifest: Manifest, format_name: str, usual: Sequence[LayerRecord]) -> Template | None:
    """Return the template that a file is, None where it is in another format than ``usual``.

    Its name tells the format, and so do its records: an OVA of PowerVS has no VMDK in it.
    """
    if not _is_disk(manifest):
        return None
    arch, layers = manifest.artifact.arch, tuple(manifest.layers)
    stem, suffix = _split(manifest.content.name, arch)
    if suffix == format_name and _types(layers) == _types(usual):
        return Template(stem, layers)
    compressed = usual[:1] if usual and isinstance(usual[0], CompressionRecord) else ()
    if not compressed or _split(manifest.shipped.name, arch)[1] != format_name or _types(layers) != _types(usual[1:]):
        return None
    own = manifest.compression
    outer = own if type(own) is type(usual[0]) else _named(usual[0], stem)
    return Template(stem, (outer, *layers))


def _named(record: LayerRecord, stem: str) -> LayerRecord:
    """Return the record of a usual compression with the name of the file, if it has one."""
    if isinstance(record, GzipRecord | ZipRecord) and record.name:
        return replace(record, name=record.name.replace(NAME, stem))
    return record


def _split(name: str, arch: str) -> tuple[str, str]:
    """Return the name of a file up to its format's suffix, and that suffix."""
    stem, dot, suffix = name.rpartition(f".{arch}.")
    return f"{stem}{dot}".rstrip("."), suffix


def _types(records: Sequence[LayerRecord]) -> list[type[LayerRecord]]:
    return [type(record) for record in records]


def _is_disk(manifest: Manifest) -> bool:
    return manifest.artifact.role == "disk" and isinstance(manifest.body, EditedDisk)


def _compresses(manifest: Manifest) -> bool:
    return any(isinstance(record, Qcow2Record) and record.encoder for record in manifest.layers)
