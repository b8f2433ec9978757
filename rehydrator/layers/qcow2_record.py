"""What has to be kept of a qcow2 file to write it again around its disk.

Structure only: header fields, the feature names that the writing qemu-img knew, and how guest clusters were given
host clusters. ``qemu-img convert`` allocates exactly the clusters that hold a non-zero byte (``"nonzero"``) and
lays them out in guest order, each L2 table right before its first cluster (``"sequential"``); only a file that
departs from that carries run lists. Compressed clusters lie one behind the other, whatever a host cluster's borders,
around what else was allocated meanwhile; where each lies follows from the sizes of all, which are the record's table.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec

from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.c_qcow2 import MAX_CLUSTER_BITS, MIN_CLUSTER_BITS
from rehydrator.layers.packed_record import Patched


class Kind(enum.StrEnum):
    """What a host cluster is used for."""

    HEADER = "header"
    REFCOUNT_TABLE = "refcount_table"
    REFCOUNT_BLOCK = "refcount_block"
    L1 = "l1"
    L2 = "l2"
    DATA = "data"
    COMPRESSED = "compressed"


class Run(msgspec.Struct, array_like=True, frozen=True):
    """``count`` host clusters from ``host`` on, used as ``kind``, with consecutive indices from ``index`` on.

    The index is the guest cluster for data, the number of the table (or of its cluster) for metadata, and the host
    cluster itself where it holds compressed clusters, several of which may share one.
    """

    kind: Kind
    host: int
    index: int
    count: int


class FeatureName(msgspec.Struct, array_like=True, frozen=True):
    """One entry of the feature name table."""

    feature_type: int
    bit: int
    name: str


class Extension(msgspec.Struct, frozen=True):
    """A header extension that has no structure here."""

    type: int
    data: bytes


# The table that qemu-img of the last years writes (block/qcow2.c, qcow2_update_header)
QEMU_FEATURE_NAMES = (
    FeatureName(0, 0, "dirty bit"),
    FeatureName(0, 1, "corrupt bit"),
    FeatureName(0, 2, "external data file"),
    FeatureName(0, 3, "compression type"),
    FeatureName(0, 4, "extended L2 entries"),
    FeatureName(1, 0, "lazy refcounts"),
    FeatureName(2, 0, "bitmaps"),
    FeatureName(2, 1, "raw external data"),
)

QEMU_REFCOUNT_BLOCKS = (2,)


class Qcow2Record(msgspec.Struct, tag="qcow2", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a qcow2 layer; positions are in clusters, sizes in bytes.

    Defaults are what ``qemu-img convert`` writes today; a manifest only says what differs from them. ``allocation``
    has its runs in the order in which the clusters were allocated. ``encoder`` compressed the clusters, if any are.
    """

    file_size: int
    l1_size: int
    version: int = 3
    cluster_bits: Annotated[int, msgspec.Meta(ge=MIN_CLUSTER_BITS, le=MAX_CLUSTER_BITS)] = 16
    refcount_table: int = 1
    refcount_table_clusters: int = 1
    refcount_blocks: tuple[int, ...] = QEMU_REFCOUNT_BLOCKS
    l1_table: int = 3
    header_length: int = 112
    incompatible_features: int = 0
    compatible_features: int = 0
    autoclear_features: int = 0
    compression_type: int = 0
    feature_names: tuple[FeatureName, ...] = QEMU_FEATURE_NAMES
    extensions: list[Extension] = []
    allocation: Literal["nonzero"] | list[BlockRun] = "nonzero"
    placement: Literal["sequential"] | list[Run] = "sequential"
    encoder: str = ""
    tables: list[str] = []
    patched: Patched | None = None

    @property
    def cluster_size(self) -> int:
        """Bytes per cluster."""
        return 1 << self.cluster_bits
