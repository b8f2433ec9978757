"""Image indexes of disk images, as the release pipelines that build images in containers make them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rehydrator.oci.c_oci import Annotation, Descriptor, Index, Manifest, MediaType, Platform
from rehydrator.oci.layout import Layout, LayoutWriter
from rehydrator.oci.reference import parse_reference
from rehydrator.progress import Progress
from rehydrator.registry.access import Access
from rehydrator.registry.place import target_of
from tests.support.images import put_base

TYPE = "application/vnd.diskimage"
RELEASE = "44.20261122.20.0"


@dataclass
class Disk:
    """An entry: its platform, artifact type and file; ``title`` as the one of the layer."""

    os: str
    kind: str
    data: bytes
    title: str = ""
    arch: str = "amd64"
    layers: int = 1
    where: str = "entry"  # and manifest: where the type is told


@dataclass
class DiskIndex:
    """An index in a layout."""

    disks: list[Disk] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] | None = None  # of a container image beside them

    def write(self, root: Path, tag: str = "stable") -> str:
        """Write the layout, or add to it; return what names the index there."""
        with LayoutWriter(root) as writer:
            entries = [self._entry(disk, writer) for disk in self.disks]
            if self.labels is not None:
                entries.append(self._container(writer, self.labels))
            index = Index(manifests=entries, annotations=self.annotations or msgspec.UNSET)
            writer.tag(writer.put(index, MediaType.INDEX), tag)
        return f"oci:{root}:{tag}"

    @staticmethod
    def _entry(disk: Disk, writer: LayoutWriter) -> Descriptor:
        titles = {Annotation.TITLE.value: disk.title} if disk.title else {}
        layer = msgspec.structs.replace(writer.put_bytes(disk.data, "application/octet-stream"), annotations=titles)
        config = writer.put_bytes(b"{}", MediaType.EMPTY)
        kind = f"{TYPE}{disk.kind}"
        manifest = Manifest(
            artifact_type=kind if disk.where == "manifest" else msgspec.UNSET,
            config=config,
            layers=[layer] * disk.layers,
        )
        return msgspec.structs.replace(
            writer.put(manifest, MediaType.MANIFEST),
            platform=Platform(disk.arch, disk.os),
            artifact_type=kind if disk.where == "entry" else "",
        )

    @staticmethod
    def _container(writer: LayoutWriter, labels: dict[str, str]) -> Descriptor:
        base = put_base(writer)
        path = writer.root / "blobs" / base.digest.replace(":", "/")
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        config = path.with_name(manifest["config"]["digest"].partition(":")[2])
        document = json.loads(config.read_bytes())
        document["config"]["Labels"] = labels
        document["config"]["Env"] = None  # as Docker writes it
        put = writer.put_bytes(json.dumps(document).encode(), MediaType.CONFIG)
        manifest["config"] |= {"digest": put.digest, "size": put.size}
        made = writer.put_bytes(json.dumps(manifest).encode(), MediaType.MANIFEST)
        return msgspec.structs.replace(made, platform=base.platform)


def upload(root: Path, repository: str, tag: str) -> None:
    """Send the index of a layout to a registry on this machine, verbatim, as tools do that know artifact types."""
    layout, quiet, access = Layout(root), Progress(), Access(plain_http=True)
    (top,) = layout.index.manifests
    entries = layout.document(top, Index).manifests
    for entry in entries:
        manifest = layout.document(entry, Manifest)
        with target_of(parse_reference(f"{repository}@{entry.digest}"), access, quiet) as target:
            for blob in (manifest.config, *manifest.layers):
                if not target.has(blob):
                    target.put_file(layout.path(blob), blob, quiet.task("send"))
            target.publish(layout.read(entry), entry)
    with target_of(parse_reference(f"{repository}:{tag}"), access, quiet) as target:
        target.publish(layout.read(top), top)
