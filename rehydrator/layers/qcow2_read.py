"""Reading the structure of a qcow2 file, with every field checked."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.c_qcow2 import (
    DEFAULT_REFCOUNT_ORDER,
    ENTRY_SIZE,
    MAGIC,
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MAX_REFTABLE_BYTES,
    MIN_CLUSTER_BITS,
    OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
    OFLAG_ZERO,
    CompressedDescriptor,
    CompressionType,
    ExtensionHeader,
    ExtensionType,
    FeatureNameEntry,
    Header,
    HeaderV3,
    Incompatible,
)
from rehydrator.layers.exactness import REWRITE, reading
from rehydrator.layers.qcow2_compressed import CompressedClusters
from rehydrator.layers.qcow2_layout import Layout
from rehydrator.layers.qcow2_record import (
    QEMU_FEATURE_NAMES,
    QEMU_REFCOUNT_BLOCKS,
    Extension,
    FeatureName,
    Kind,
    Qcow2Record,
    Run,
)

T = TypeVar("T")


class Qcow2Structure(msgspec.Struct, frozen=True):
    """What a qcow2 file says about itself. ``record`` still has the default allocation and placement."""

    record: Qcow2Record
    layout: Layout
    disk_size: int


def read_image(outer: Source, path: Path) -> Qcow2Structure:
    """Read and check header, tables and layout of the image in ``outer``."""
    with reading(path, REWRITE):
        return _Reader(outer, path).read()


class _Reader:
    def __init__(self, outer: Source, path: Path) -> None:
        self._outer = outer
        self._path = path

    def read(self) -> Qcow2Structure:
        head = bytes(self._outer.read(0, min(self._outer.size, Header.SIZE + HeaderV3.SIZE)))
        if head[: len(MAGIC)] != MAGIC:
            raise CorruptError(
                "not a qcow2 file: wrong magic",
                path=self._path,
                offset=0,
                expected=MAGIC.hex(),
                actual=head[: len(MAGIC)].hex(),
            )
        header = Header.parse(head)
        self._check_header(header)
        self._cluster = 1 << header.cluster_bits
        v3 = self._version3(header, head)
        extended = bytes(self._outer.read(0, min(self._outer.size, self._cluster)))
        names, extensions = self._extensions(extended, v3.header_length)
        type_at = Header.SIZE + HeaderV3.SIZE
        compression_type = int.from_bytes(extended[type_at : type_at + (v3.header_length > type_at)])
        self._check_compression(compression_type, v3.incompatible_features)
        refcount_blocks = self._refcount_blocks(header)
        layout = self._layout(header, refcount_blocks)
        record = Qcow2Record(
            version=header.version,
            cluster_bits=header.cluster_bits,
            file_size=self._outer.size,
            l1_size=header.l1_size,
            refcount_table_clusters=header.refcount_table_clusters,
            l1_table=header.l1_table_offset // self._cluster,
            refcount_table=header.refcount_table_offset // self._cluster,
            refcount_blocks=_usual(tuple(refcount_blocks), QEMU_REFCOUNT_BLOCKS),
            header_length=v3.header_length,
            incompatible_features=v3.incompatible_features,
            compatible_features=v3.compatible_features,
            autoclear_features=v3.autoclear_features,
            compression_type=compression_type,
            feature_names=_usual(tuple(names), QEMU_FEATURE_NAMES),
            extensions=extensions,
        )
        return Qcow2Structure(record, layout, header.size)

    def _corrupt(self, name: str, expected: object, actual: object, offset: int | None = None) -> CorruptError:
        where = Header.offset_of(name) if offset is None else offset
        return CorruptError(
            f"qcow2 {name} is impossible", path=self._path, offset=where, expected=expected, actual=actual
        )

    def _check_header(self, header: Header) -> None:
        if header.version not in (2, 3):
            raise _unread("unknown qcow2 version", "version", "2 or 3", header.version)
        for name, what in (
            ("backing_file_offset", "a backing file"),
            ("crypt_method", "encryption"),
            ("nb_snapshots", "snapshots"),
        ):
            if getattr(header, name):
                raise _unread(f"qcow2 with {what}", name, f"{name} 0", getattr(header, name))
        if not MIN_CLUSTER_BITS <= header.cluster_bits <= MAX_CLUSTER_BITS:
            raise self._corrupt("cluster_bits", f"{MIN_CLUSTER_BITS}..{MAX_CLUSTER_BITS}", header.cluster_bits)
        per_entry = 1 << (2 * header.cluster_bits - 3)
        if header.l1_size * ENTRY_SIZE > MAX_L1_BYTES or header.l1_size * per_entry < header.size:
            raise self._corrupt("l1_size", f"at least {-(-header.size // per_entry)}", header.l1_size)
        if header.refcount_table_clusters << header.cluster_bits > MAX_REFTABLE_BYTES:
            raise self._corrupt(
                "refcount_table_clusters", f"at most {MAX_REFTABLE_BYTES} bytes", header.refcount_table_clusters
            )

    def _version3(self, header: Header, head: bytes) -> HeaderV3:
        if header.version == 2:
            return HeaderV3(
                incompatible_features=0,
                compatible_features=0,
                autoclear_features=0,
                refcount_order=DEFAULT_REFCOUNT_ORDER,
                header_length=Header.SIZE,
            )
        v3 = HeaderV3.parse(head, Header.SIZE)
        unknown = v3.incompatible_features & ~Incompatible.COMPRESSION_TYPE
        if unknown:
            names = Incompatible(unknown & sum(Incompatible)).name or "unknown bits"
            raise UnsupportedError(
                f"qcow2 with incompatible features {names}",
                offset=Header.SIZE + HeaderV3.offset_of("incompatible_features"),
                expected=f"{int(Incompatible.COMPRESSION_TYPE):#x} or 0",
                actual=f"{v3.incompatible_features:#x}",
            )
        if v3.refcount_order != DEFAULT_REFCOUNT_ORDER:
            raise UnsupportedError(
                "qcow2 reference counts other than 16 bits",
                path=self._path,
                offset=Header.SIZE + HeaderV3.offset_of("refcount_order"),
                expected=f"refcount_order {DEFAULT_REFCOUNT_ORDER}",
                actual=v3.refcount_order,
            )
        if not Header.SIZE + HeaderV3.SIZE <= v3.header_length <= self._cluster_limit(header):
            raise self._corrupt(
                "header_length", "at least 104", v3.header_length, Header.SIZE + HeaderV3.offset_of("header_length")
            )
        return v3

    def _check_compression(self, compression_type: int, features: int) -> None:
        """Refuse an unknown type, and one that the feature bit contradicts, as qemu does."""
        at = Header.SIZE + HeaderV3.SIZE
        if compression_type not in set(CompressionType):
            raise UnsupportedError(
                "qcow2 with an unknown compression type",
                offset=at,
                expected=f"one of {', '.join(f'{item:d}' for item in CompressionType)}",
                actual=compression_type,
            )
        if (compression_type != CompressionType.ZLIB) != bool(features & Incompatible.COMPRESSION_TYPE):
            raise self._corrupt("compression_type", "zlib unless the feature bit is set", compression_type, at)

    @staticmethod
    def _cluster_limit(header: Header) -> int:
        return 1 << header.cluster_bits

    def _extensions(self, cluster: bytes, at: int) -> tuple[list[FeatureName], list[Extension]]:
        names: list[FeatureName] = []
        extensions: list[Extension] = []
        while at + ExtensionHeader.SIZE <= len(cluster):
            head = ExtensionHeader.parse(cluster, at)
            if head.type == ExtensionType.END:
                break
            start = at + ExtensionHeader.SIZE
            if start + head.length > len(cluster):
                raise self._corrupt("header extension length", f"at most {len(cluster) - start}", head.length, at)
            data = cluster[start : start + head.length]
            if head.type == ExtensionType.FEATURE_NAME_TABLE and not names and len(data) % FeatureNameEntry.SIZE == 0:
                names = [_feature_name(data, i) for i in range(0, len(data), FeatureNameEntry.SIZE)]
            else:
                extensions.append(Extension(head.type, data))
            at = start + -(-head.length // 8) * 8
        return names, extensions

    def _table(self, name: str, offset: int, entries: int) -> array.array[int]:
        if offset % self._cluster or (entries and not offset) or offset + entries * ENTRY_SIZE > self._outer.size:
            raise CorruptError(
                f"qcow2 {name} lies outside of the file or is not aligned",
                path=self._path,
                offset=offset,
                expected=f"within {self._outer.size} bytes",
                actual=f"{entries} entries",
            )
        values = array.array("Q", bytes(self._outer.read(offset, entries * ENTRY_SIZE)))
        if sys.byteorder == "little":
            values.byteswap()
        return values

    def _refcount_blocks(self, header: Header) -> list[int]:
        entries = header.refcount_table_clusters * self._cluster // ENTRY_SIZE
        table = self._table("refcount table", header.refcount_table_offset, entries)
        used = [entry for entry in table if entry]
        for index, entry in enumerate(table[: len(used)]):
            at = header.refcount_table_offset + index * ENTRY_SIZE
            if not entry:
                raise UnsupportedError(
                    "qcow2 refcount table with gaps", offset=at, expected="a refcount block", actual="none"
                )
            self._check_cluster("refcount block", entry, at)
        return [entry // self._cluster for entry in used]

    def _check_cluster(self, name: str, offset: int, table: int) -> None:
        if offset % self._cluster or not 0 < offset < self._outer.size:
            raise CorruptError(
                f"qcow2 {name} offset is out of range",
                path=self._path,
                offset=table,
                expected=f"a multiple of {self._cluster} below {self._outer.size}",
                actual=f"{offset:#x}",
            )

    def _layout(self, header: Header, refcount_blocks: list[int]) -> Layout:
        cluster = self._cluster
        l1_table = self._table("L1 table", header.l1_table_offset, header.l1_size)
        runs = [
            Run(Kind.HEADER, 0, 0, 1),
            Run(Kind.REFCOUNT_TABLE, header.refcount_table_offset // cluster, 0, header.refcount_table_clusters),
            *(Run(Kind.REFCOUNT_BLOCK, host, index, 1) for index, host in enumerate(refcount_blocks)),
        ]
        if header.l1_size:
            length = -(-header.l1_size * ENTRY_SIZE // cluster)
            runs.append(Run(Kind.L1, header.l1_table_offset // cluster, 0, length))
        compressed = CompressedClusters()
        for index, entry in enumerate(l1_table):
            if not entry:
                continue
            offset = entry & OFFSET_MASK
            self._check_cluster("L2 table", offset, header.l1_table_offset + index * ENTRY_SIZE)
            runs.append(Run(Kind.L2, offset // cluster, index, 1))
            runs.extend(self._data_runs(offset, index, compressed))
        compressed.sort()
        layout = Layout([*runs, *compressed.host_runs(cluster)], compressed)
        twice = layout.overlap()
        if twice is not None:
            raise CorruptError(
                f"qcow2 cluster {twice.host} is used twice",
                path=self._path,
                offset=twice.host * cluster,
                expected="one use",
                actual=f"{twice.one} and {twice.other}",
            )
        return layout

    def _data_runs(self, table_offset: int, number: int, compressed: CompressedClusters) -> Iterator[Run]:
        """Yield the runs of one L2 table's guest clusters; add those that are compressed to ``compressed``."""
        per_table = self._cluster // ENTRY_SIZE
        start_host = start_index = count = 0
        for index, entry in enumerate(self._table("L2 table", table_offset, per_table), number * per_table):
            if not entry:
                continue
            if entry & (OFLAG_COMPRESSED | OFLAG_ZERO):
                at = table_offset + (index - number * per_table) * ENTRY_SIZE
                self._compressed(entry, index, at, compressed)
                continue
            offset = entry & OFFSET_MASK
            host = offset // self._cluster
            if count and host == start_host + count and index == start_index + count:
                count += 1
            else:
                if count:
                    yield Run(Kind.DATA, start_host, start_index, count)
                start_host, start_index, count = host, index, 1
            # one comparison per entry keeps a 10 GiB image's tables within tens of milliseconds
            if offset >= self._outer.size or offset % self._cluster:
                self._check_cluster("data cluster", offset, table_offset + (index - number * per_table) * ENTRY_SIZE)
        if count:
            yield Run(Kind.DATA, start_host, start_index, count)

    def _compressed(self, entry: int, guest: int, at: int, compressed: CompressedClusters) -> None:
        """Add a compressed cluster; its size, exact once it was decompressed, reaches to the end of its last sector."""
        if not entry & OFLAG_COMPRESSED:
            raise UnsupportedError(
                "qcow2 with zero clusters", offset=at, expected="no flag for zeros", actual=f"{entry:#x}"
            )
        descriptor = CompressedDescriptor.parse(entry, self._cluster.bit_length() - 1)
        end = min(descriptor.end, self._outer.size)
        if entry & OFLAG_COPIED or not self._cluster <= descriptor.offset < end:
            raise CorruptError(
                "qcow2 compressed cluster is out of range",
                path=self._path,
                offset=at,
                expected=f"from {self._cluster:#x} to {self._outer.size:#x}",
                actual=f"{descriptor.offset:#x} to {descriptor.end:#x}",
            )
        compressed.append(guest, descriptor.offset, min(end - descriptor.offset, self._cluster))


def _unread(what: str, name: str, expected: object, actual: object) -> UnsupportedError:
    """Return the error about a header of a kind that is not read."""
    return UnsupportedError(what, offset=Header.offset_of(name), expected=expected, actual=actual)


def _usual(found: tuple[T, ...], usual: tuple[T, ...]) -> tuple[T, ...]:
    """Return the default itself for a value equal to it: msgspec leaves out defaults by identity."""
    return usual if found == usual else found


def _feature_name(data: bytes, at: int) -> FeatureName:
    entry = FeatureNameEntry.parse(data, at)
    return FeatureName(entry.feature_type, entry.bit, entry.name.rstrip(b"\0").decode("ascii", "replace"))
