"""Wrapping a disk like another file: the records of a template, with all values that another disk or name changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rehydrator.disk.source import Source
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.qcow2_record import Qcow2Record
from rehydrator.layers.table import CompressionRecord, LayerRecord
from rehydrator.layers.tar_record import TarRecord
from rehydrator.layers.vhd_record import VhdRecord
from rehydrator.layers.vhdx_record import VhdxRecord
from rehydrator.layers.vmdk_record import VmdkRecord
from rehydrator.layers.zip_record import ZipRecord
from rehydrator.synthesis import archives, disks
from rehydrator.synthesis.made import Made
from rehydrator.synthesis.template import Template

_LAYERS: dict[type[LayerRecord], Callable[[Any, Source, Made], Source]] = {
    Qcow2Record: disks.qcow2,
    VmdkRecord: disks.vmdk,
    VhdRecord: disks.vhd,
    VhdxRecord: disks.vhdx,
    GzipRecord: archives.gzip,
    ZipRecord: archives.zip_,
}


def wrapped(template: Template, made: Made) -> Source:
    """Return the file around the disk of ``made``.

    Raises UnsupportedError where a record of the template can't be told of another disk.
    """
    content = inside = made.disk  # ``inside`` is what ``content`` holds uncompressed
    for record in reversed(template.records):
        if isinstance(record, TarRecord):
            outer = archives.tar(record, content, made, inside)
        else:
            outer = _LAYERS[type(record)](record, content, made)
        inside = content if isinstance(record, CompressionRecord) else outer
        content = outer
    return content
