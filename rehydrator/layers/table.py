"""The one table of layers."""

from __future__ import annotations

from rehydrator.layers.base import Layer
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.qcow2_record import Qcow2Record

# container format (file name suffix) -> its layer
LAYERS: dict[str, Layer[Qcow2Record]] = {"qcow2": Qcow2Layer()}


def layer_for(record: Qcow2Record) -> Layer[Qcow2Record]:
    """Return the layer that a record belongs to."""
    return LAYERS[record.__struct_config__.tag]  # type: ignore[index]
