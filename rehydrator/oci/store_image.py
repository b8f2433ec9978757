"""Finding the layers of a store in a container image, whoever built on it or compressed its layers anew since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.oci.c_oci import Descriptor, Manifest
from rehydrator.oci.labels import LABEL_ARCHITECTURES, LABEL_LAYERS


class _Execution(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None = None


class _RootFS(msgspec.Struct, frozen=True):
    diff_ids: list[str] = []


class SeenConfig(msgspec.Struct, frozen=True):
    """As much of an image's config as is read, from any program that makes images."""

    config: _Execution = _Execution()
    rootfs: _RootFS = _RootFS()

    @property
    def labels(self) -> Mapping[str, str]:
        """The image's labels."""
        return self.config.labels or {}


class StoreImage(msgspec.Struct, frozen=True):
    """The layers of a store: those of the canonical disks by architecture, and that of all else."""

    canonicals: Mapping[str, Descriptor]
    rest: Descriptor


def find_store(manifest: Manifest, config: SeenConfig, path: Path) -> StoreImage:
    """Return the layers of the store in an image.

    Raises UnsupportedError for an image without one, and CorruptError where its labels and layers do not fit together.
    """
    said = config.labels.get(LABEL_LAYERS)
    if not said:
        raise UnsupportedError(
            "is a container image without a store",
            path=path,
            expected=f"the label {LABEL_LAYERS}",
            hint="'rehydrator build image' makes such images",
        )
    layers = dict(zip(config.rootfs.diff_ids, manifest.layers, strict=False))
    arches, diff_ids = config.labels.get(LABEL_ARCHITECTURES, "").split(","), said.split(",")
    if len(diff_ids) != len(arches) + 1 or not layers.keys() >= set(diff_ids):
        raise CorruptError(
            f"has other layers than its label {LABEL_LAYERS} says", path=path, hint="Build the image again"
        )
    *canonicals, rest = (layers[item] for item in diff_ids)
    return StoreImage(dict(zip(arches, canonicals, strict=True)), rest)
