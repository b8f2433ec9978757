"""OCI archives in a tar record: the documents of an image with one layer, which follow from a few of its values.

Names and order of the keys are those of the image builder's stage `org.osbuild.oci-archive`; the documents themselves
are specified in the OCI image specification 1.0 (image-layout.md, config.md, manifest.md). An archive whose documents
are of another hand keeps their texts.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from rehydrator.errors import MismatchError
from rehydrator.layers.tar_record import OciImage, OciRole, TarMember, TarRecord

BLOBS = "blobs/sha256/"
_MEDIA_TYPE = "application/vnd.oci.image."
_DIGEST = "sha256:"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CREATED_BY = "/bin/sh -c #(nop) osbuild input 'base'"
_PLAIN: dict[str, OciRole] = {"oci-layout": "layout", "index.json": "index"}
_Documents: TypeAlias = dict[OciRole, str]


class _RootFs(msgspec.Struct):
    diff_ids: list[str]


class _Config(msgspec.Struct):
    """What is not the same in every configuration."""

    created: str
    architecture: str
    rootfs: _RootFs


def written_out(record: TarRecord, layer_size: int) -> list[TarMember]:
    """Return the members with their names and texts, where ``record`` leaves those of an OCI image out.

    ``layer_size`` is the size of the layer blob in bytes. Raises MismatchError for a forged record.
    """
    if record.oci is None:
        return record.members
    documents = _documents(record.oci, layer_size)
    return [_written(member, record.oci, documents) for member in record.members]


def told_as_image(record: TarRecord, layer_size: int) -> TarRecord:
    """Leave the documents of an OCI image out of a record that holds them; any other record stays as it is."""
    image = next(filter(None, (_image(member, record) for member in record.members)), None)
    if image is None:
        return record
    documents = _documents(image, layer_size)
    members = [_told(member, image, documents) for member in record.members]
    told = msgspec.structs.replace(record, members=members, oci=image)
    return told if {member.oci for member in members} >= {*documents, "layer"} else record


def _image(member: TarMember, record: TarRecord) -> OciImage | None:
    """Read the image's values from its configuration; None where ``member`` is something else."""
    layer = record.members[record.disk].name
    if not (member.name.startswith(BLOBS) and layer.startswith(BLOBS) and member.text):
        return None
    try:
        config = msgspec.json.decode(member.content, type=_Config)
        created = int(datetime.fromisoformat(config.created).timestamp())
        diff_id = config.rootfs.diff_ids[0].removeprefix(_DIGEST)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError, IndexError):
        return None
    return OciImage(config.architecture, created, diff_id, layer.removeprefix(BLOBS))


def _documents(image: OciImage, layer_size: int) -> _Documents:
    """Return the text of each document."""
    try:
        created = datetime.fromtimestamp(image.created, UTC).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise MismatchError("the tar record holds an impossible time", actual=image.created) from error
    config = json.dumps(
        {
            "created": created,
            "architecture": image.architecture,
            "os": "linux",
            "config": {"Env": [_PATH], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_DIGEST + image.diff_id]},
            "history": [{"created": created, "created_by": _CREATED_BY}],
        }
    )
    layer = {"digest": _DIGEST + image.layer, "size": layer_size, "mediaType": f"{_MEDIA_TYPE}layer.v1.tar+gzip"}
    manifest = json.dumps({"schemaVersion": 2, "config": _descriptor(config, "config"), "layers": [layer]})
    index = json.dumps({"schemaVersion": 2, "manifests": [_descriptor(manifest, "manifest")]})
    layout = json.dumps({"imageLayoutVersion": "1.0.0"})
    return {"layout": layout, "index": index, "config": config, "manifest": manifest}


def _descriptor(document: str, kind: str) -> dict[str, str | int]:
    return {
        "digest": _DIGEST + _sha256(document),
        "size": len(document.encode()),
        "mediaType": f"{_MEDIA_TYPE}{kind}.v1+json",
    }


def _sha256(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()


def _written(member: TarMember, image: OciImage, documents: _Documents) -> TarMember:
    if not member.oci:
        return member
    digest = image.layer if member.oci == "layer" else _sha256(documents[member.oci])
    name = member.name if member.oci in _PLAIN.values() else member.name + digest
    text = [] if member.oci == "layer" else [documents[member.oci]]
    return msgspec.structs.replace(member, name=name, text=text, oci="")


def _told(member: TarMember, image: OciImage, documents: _Documents) -> TarMember:
    """Return ``member`` by its role, where its name and content follow from that."""
    for role, name in _ROLES:
        short = msgspec.structs.replace(member, name=name, text=[], oci=role)
        if _written(short, image, documents) == msgspec.structs.replace(member, oci=""):
            return short
    return member


_ROLES: tuple[tuple[OciRole, str], ...] = (
    *((role, name) for name, role in _PLAIN.items()),
    ("config", BLOBS),
    ("manifest", BLOBS),
    ("layer", BLOBS),
)
