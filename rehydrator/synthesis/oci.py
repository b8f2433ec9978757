"""The image in an OCI archive: its documents follow from a few values, all of which are others for another disk."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from rehydrator.errors import UnsupportedError
from rehydrator.layers.tar_oci import BLOBS, written_out
from rehydrator.layers.tar_record import OciImage, TarRecord
from rehydrator.release.naming import go_arch
from rehydrator.synthesis.made import Made

_LAYOUT = "oci-layout"


class LayerBlob(msgspec.Struct, frozen=True):
    """The layer: the sha256 and size of its blob, and the sha256 of what that holds uncompressed."""

    sha256: str
    size: int
    diff_id: str


def is_image(record: TarRecord) -> bool:
    """Tell whether a tar is an OCI archive."""
    return record.oci is not None or any(member.name == _LAYOUT for member in record.members)


def with_layer(record: TarRecord, layer: LayerBlob, made: Made) -> TarRecord:
    """Return the record of an archive with another layer; its blobs are sorted by their digests.

    Raises UnsupportedError for an archive whose documents are not the image builder's.
    """
    if record.oci is None:
        raise UnsupportedError("an OCI archive of another hand than the image builder's")
    fresh = replace(record, oci=OciImage(go_arch(made.arch), made.epoch, layer.diff_id, layer.sha256))
    names = [member.name for member in written_out(fresh, layer.size)]
    blobs = [number for number, member in enumerate(fresh.members) if member.oci and member.name == BLOBS]
    order = dict(zip(blobs, sorted(blobs, key=names.__getitem__), strict=True))
    members = [fresh.members[order.get(number, number)] for number in range(len(fresh.members))]
    return replace(fresh, members=members, disk=next(place for place, at in order.items() if at == fresh.disk))
