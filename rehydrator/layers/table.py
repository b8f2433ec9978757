"""The one table of layers: by the magic bytes of a file, and by the record that it leaves."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from rehydrator.codecs.c_xz import HEADER_MAGIC as XZ_MAGIC
from rehydrator.disk.source import Source
from rehydrator.fs.cpio.c_cpio import MAGIC as CPIO_MAGIC
from rehydrator.fs.iso9660.c_iso9660 import STANDARD_IDENTIFIER, SYSTEM_AREA, VolumeDescriptor
from rehydrator.fs.squashfs.c_squashfs import MAGIC as SQUASHFS_MAGIC
from rehydrator.layers.base import CompressionLayer, Layer
from rehydrator.layers.c_gzip import MAGIC as GZIP_MAGIC
from rehydrator.layers.c_qcow2 import MAGIC as QCOW2_MAGIC
from rehydrator.layers.c_tar import MAGIC as TAR_MAGIC
from rehydrator.layers.c_tar import MAGIC_OFFSET as TAR_MAGIC_OFFSET
from rehydrator.layers.c_vhd import COOKIE as VHD_COOKIE
from rehydrator.layers.c_vhd import Footer as VhdFooter
from rehydrator.layers.c_vhdx import SIGNATURE as VHDX_SIGNATURE
from rehydrator.layers.c_vmdk import MAGIC as VMDK_MAGIC
from rehydrator.layers.c_zip import MAGIC as ZIP_MAGIC
from rehydrator.layers.cpio import CpioLayer
from rehydrator.layers.cpio_record import CpioRecord
from rehydrator.layers.gzip import GzipLayer
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.iso import IsoLayer
from rehydrator.layers.iso_record import IsoRecord
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.qcow2_record import Qcow2Record
from rehydrator.layers.squashfs import SquashfsLayer
from rehydrator.layers.squashfs_record import SquashfsRecord
from rehydrator.layers.tar import TarLayer
from rehydrator.layers.tar_record import TarRecord
from rehydrator.layers.vhd import VhdLayer
from rehydrator.layers.vhd_record import VhdRecord
from rehydrator.layers.vhdx import VhdxLayer
from rehydrator.layers.vhdx_record import VhdxRecord
from rehydrator.layers.vmdk import VmdkLayer
from rehydrator.layers.vmdk_record import VmdkRecord
from rehydrator.layers.xz import XzLayer
from rehydrator.layers.xz_record import XzRecord
from rehydrator.layers.zip import ZipLayer
from rehydrator.layers.zip_record import ZipRecord

# Compressions, which a release puts around containers as well.
CompressionRecord: TypeAlias = GzipRecord | XzRecord | ZipRecord
DiskImageRecord: TypeAlias = Qcow2Record | VmdkRecord | VhdRecord | VhdxRecord
LayerRecord: TypeAlias = DiskImageRecord | TarRecord | CpioRecord | SquashfsRecord | IsoRecord | CompressionRecord


ISO_MAGIC_OFFSET = SYSTEM_AREA + VolumeDescriptor.offset_of("StandardIdentifier")


class Format(msgspec.Struct, frozen=True):
    """A container format: its name (the tag of its record), its magic bytes and their place, and its layer.

    ``offset`` counts from the start of the file, a negative one from its end. ``inside`` is what it holds: one
    file, such as a disk, files one behind the other, or a tree of files.
    """

    name: str
    magic: bytes
    offset: int
    layer: Layer[Any]
    inside: Literal["file", "files", "tree"] = "file"

    def matches(self, source: Source) -> bool:
        """Tell whether ``source`` has the magic bytes."""
        at = self.offset if self.offset >= 0 else source.size + self.offset
        fits = 0 <= at <= source.size - len(self.magic)
        return fits and bytes(source.read(at, len(self.magic))) == self.magic


FORMATS = (
    Format("qcow2", QCOW2_MAGIC, 0, Qcow2Layer()),
    Format("vmdk", VMDK_MAGIC, 0, VmdkLayer()),
    Format("tar", TAR_MAGIC, TAR_MAGIC_OFFSET, TarLayer()),
    Format("vhd", VHD_COOKIE, -VhdFooter.SIZE, VhdLayer()),
    Format("vhdx", VHDX_SIGNATURE, 0, VhdxLayer()),
    Format("cpio", CPIO_MAGIC, 0, CpioLayer(), "files"),
    Format("squashfs", SQUASHFS_MAGIC, 0, SquashfsLayer(), "tree"),
    Format("gzip", GZIP_MAGIC, 0, GzipLayer()),
    Format("xz", XZ_MAGIC, 0, XzLayer()),
    Format("zip", ZIP_MAGIC, 0, ZipLayer()),
    Format("iso", STANDARD_IDENTIFIER, ISO_MAGIC_OFFSET, IsoLayer(), "tree"),
)


def format_of(source: Source) -> Format | None:
    """Return the container format of ``source``, None for a raw disk and for what is not known."""
    return next((item for item in FORMATS if item.matches(source)), None)


def compression_layer(name: str) -> CompressionLayer[Any] | None:
    """Return the layer of a compression by its name, None for one that is not known."""
    layer = next((item.layer for item in FORMATS if item.name == name), None)
    return layer if isinstance(layer, CompressionLayer) else None


def format_for(record: LayerRecord) -> Format:
    """Return the format that a record belongs to."""
    tag = record.__struct_config__.tag
    return next(item for item in FORMATS if item.name == tag)


def layer_for(record: LayerRecord) -> Layer[Any]:
    """Return the layer that a record belongs to."""
    return format_for(record).layer
