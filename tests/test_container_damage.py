"""What can be wrong with a container, over all of them: each damage is told with its place and what should be there.

The files are those of the real tools. What only one format has is in the tests of its layer.
"""

from __future__ import annotations

import functools
import gzip
import lzma
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from rehydrator.codecs import c_xz
from rehydrator.codecs.c_xz import Check, IndexRecord, StreamFooter
from rehydrator.disk.source import BytesSource
from rehydrator.errors import CorruptError, RehydratorError, UnsupportedError
from rehydrator.intake.decompress import pieces
from rehydrator.layers import c_vhdx, vhdx_tables
from rehydrator.layers.base import Layer
from rehydrator.layers.c_qcow2 import OFLAG_COPIED, CompressedDescriptor
from rehydrator.layers.c_qcow2 import Header as Qcow2Header
from rehydrator.layers.c_tar import PosixHeader
from rehydrator.layers.c_vhd import DynamicHeader, Footer
from rehydrator.layers.c_vmdk import GrainMarker, SparseExtentHeader
from rehydrator.layers.c_zip import CentralDirectoryHeader, EndRecord
from rehydrator.layers.gzip import GzipLayer
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.tar import TarLayer
from rehydrator.layers.tar_header import checksum
from rehydrator.layers.vhd import VhdLayer
from rehydrator.layers.vhd_footer import sealed
from rehydrator.layers.vhdx import VhdxLayer
from rehydrator.layers.vmdk import VmdkLayer
from rehydrator.layers.xz import XzLayer
from rehydrator.layers.zip import ZipLayer
from tests.support.containers import PATH, check_complete, convert, sparse_raw
from tests.support.disks import MIB, random_sparse

Edit: TypeAlias = Callable[[bytes], bytes]

SIZE = 5 * MIB
PIECES = {0: random_sparse(1, 3000, 1.0), 65536: b"some text " * 900, 2 * MIB + 512: random_sparse(2, 70_000, 1.0)}
LAYERS: dict[str, Layer[Any]] = {
    "qcow2": Qcow2Layer(),
    "qcow2 -c": Qcow2Layer(),
    "vmdk": VmdkLayer(),
    "vhd": VhdLayer(),
    "vhd dynamic": VhdLayer(),
    "vhdx": VhdxLayer(),
    "tar": TarLayer(),
    "gzip": GzipLayer(),
    "xz": XzLayer(),
    "zip": ZipLayer(),
}
FIXED = ("vpc", "-o", "subformat=fixed,force_size")
DYNAMIC = ("vpc", "-o", "subformat=dynamic,force_size")


@pytest.fixture(scope="module")
def good(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same disk in each container."""
    need("qemu-img", "tar", "gzip", "xz", "zip")
    work = tmp_path_factory.mktemp("damage")
    raw = sparse_raw(work / "raw", SIZE, PIECES)

    def output(*command: str) -> bytes:
        return subprocess.run(command, check=True, capture_output=True, cwd=work).stdout

    return {
        "qcow2": convert(raw, work / "x", "qcow2").read_bytes(),
        "qcow2 -c": convert(raw, work / "x", "qcow2", "-c").read_bytes(),
        "vmdk": convert(raw, work / "x", "vmdk", "-o", "subformat=streamOptimized").read_bytes(),
        "vhd": convert(raw, work / "x", *FIXED).read_bytes(),
        "vhd dynamic": convert(raw, work / "x", *DYNAMIC).read_bytes(),
        "vhdx": convert(raw, work / "x", "vhdx", "-o", "block_size=1M").read_bytes(),
        "tar": output("tar", "--format=oldgnu", "--sparse", "-cf", "-", "raw"),
        "gzip": output("gzip", "-n", "-c", "raw"),
        "xz": output("xz", "-0", "-c", "raw"),
        "zip": output("zip", "-q", "-j", "-", "raw"),
    }


def test_the_good_files_are_taken_apart(good: dict[str, bytes]) -> None:
    for name, layer in LAYERS.items():
        assert bytes(layer.unwrap(BytesSource(good[name]), PATH).inner.read(0, SIZE))[:3000] == PIECES[0], name


# -- ways to damage a file


def put(at: int, data: bytes) -> Edit:
    """Write at a place, which counts from the end where it is negative."""

    def edit(file: bytes) -> bytes:
        start = at % len(file)
        return file[:start] + data + file[start + len(data) :]

    return edit


def flipped(at: int) -> Edit:
    """Invert a byte, for places where tools write random ones; like :func:`put` otherwise."""
    return lambda file: put(at, bytes([file[at % len(file)] ^ 0xFF]))(file)


def cut(size: int) -> Edit:
    """Truncate to ``size`` bytes, or by so many where it is negative."""
    return lambda file: file[:size]


def then(*edits: Edit) -> Edit:
    """Do one after the other."""

    def edit(file: bytes) -> bytes:
        for step in edits:
            file = step(file)
        return file

    return edit


def big(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "big")


def little(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


CLUSTER = 65536
REFCOUNTS, L1, L2, DATA = (number * CLUSTER for number in (2, 3, 4, 5))
REFCOUNT_TABLE = CLUSTER


def in_qcow2(name: str, value: int, size: int) -> Edit:
    return put(Qcow2Header.offset_of(name), big(value, size))


def packed_cluster(content: bytes, guest: int = 0) -> Edit:
    """Put other compressed data in the place of a guest cluster of a qcow2 with compressed ones."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12, 9)
    stream = packer.compress(content) + packer.flush()

    def edit(file: bytes) -> bytes:
        offset = CompressedDescriptor.parse(int.from_bytes(file[L2 + 8 * guest :][:8]), 16).offset
        entry = big(CompressedDescriptor.pack(offset, len(stream), 16))
        return then(put(offset, stream), put(L2 + 8 * guest, entry))(file)

    return edit


SECTOR = 512
DIRECTORY, TABLE, GRAINS = 26 * SECTOR, 27 * SECTOR, 128 * SECTOR


def in_vmdk(name: str, value: int, size: int = 8) -> Edit:
    return put(SparseExtentHeader.offset_of(name), little(value, size))


def packed_grain(content: bytes) -> Edit:
    stream = zlib.compress(content, 6)
    return put(GRAINS + GrainMarker.offset_of("size"), little(len(stream)) + stream.ljust(SECTOR - 12, b"\0"))


def copied(source: int, target: int, size: int) -> Edit:
    """Copy some bytes from one place to another."""
    return lambda file: put(target, file[source : source + size])(file)


def in_footer(name: str, value: bytes) -> Edit:
    """Change a field of a fixed VHD, and its checksum."""
    return then(
        put(Footer.offset_of(name) - Footer.SIZE, value), lambda file: file[:-512] + sealed(Footer, file[-512:])
    )


BAT_OF_VHD = Footer.SIZE + DynamicHeader.SIZE
BAT, ITEMS = 2 * MIB, 3 * MIB + 65536
FIRST_BLOCK = 8 * MIB


def seal_tar(file: bytes) -> bytes:
    return put(PosixHeader.offset_of("chksum"), b"%06o\0 " % checksum(file[:512]))(file)


def in_tar(name: str, value: bytes) -> Edit:
    return then(put(PosixHeader.offset_of(name), value), seal_tar)


SPARSE = PosixHeader.offset_of("tail") + 41  # sp: four pieces of two numbers of 12 digits each


def in_zip_end(name: str, value: bytes) -> Edit:
    return put(EndRecord.offset_of(name) - EndRecord.SIZE, value)


def in_zip_directory(name: str, value: bytes) -> Edit:
    def edit(file: bytes) -> bytes:
        start = EndRecord.parse(file, len(file) - EndRecord.SIZE).central_directory_offset
        return put(start + CentralDirectoryHeader.offset_of(name), value)(file)

    return edit


def xz_index(uncompressed_size: int) -> Edit:
    """Let the index of a .xz file of one block tell another size of the content."""

    def edit(file: bytes) -> bytes:
        at = len(file) - StreamFooter.SIZE - c_xz.index_size(StreamFooter.parse(file[-StreamFooter.SIZE :]))
        (record,) = c_xz.parse_index(file[at : -StreamFooter.SIZE])
        index = c_xz.pack_index([IndexRecord(record.unpadded_size, uncompressed_size)])
        return file[:at] + index + c_xz.stream_footer(Check.CRC64, len(index))

    return edit


class Damage(msgspec.Struct, frozen=True):
    """``words`` is what the message begins with; None stands for what depends on the file."""

    container: str
    what: str
    edit: Edit
    words: str
    offset: int | None
    expected: str | None
    actual: str | None
    kind: type[RehydratorError] = CorruptError


refused = functools.partial(Damage, kind=UnsupportedError)

TABLE_OF_DAMAGE = [
    # wrong magic
    Damage("qcow2", "magic", put(0, b"QFI!"), "not a qcow2 file", 0, "514649fb", "51464921"),
    Damage("vmdk", "magic", put(0, b"KDMX"), "not a VMDK", 0, "4b444d56", "4b444d58"),
    Damage("vhd", "magic", put(-512, b"x"), "VHD cookie", SIZE, "conectix", b"xonectix".hex()),
    Damage("vhd dynamic", "magic", put(512, b"x"), "VHD cookie", 512, "cxsparse", b"xxsparse".hex()),
    Damage("vhdx", "magic", put(0, b"V"), "VHDX Signature", 0, "vhdxfile", b"Vhdxfile".hex()),
    Damage("tar", "magic", put(257, b"U"), "tar header without its magic", 257, "ustar", b"Ustar  \0".hex()),
    Damage("gzip", "magic", put(0, b"\x1e"), "not a gzip file", 0, "1f8b08", "1e8b08"),
    Damage("xz", "magic", put(1, b"8"), "not an xz file", 0, "fd377a585a00", "fd387a585a00"),
    Damage("zip", "magic", put(3, b"\5"), "not a zip file", 0, "504b0304", "504b0305"),
    # clusters, grains, blocks and members outside of the file
    Damage("qcow2", "cluster outside", put(L2, big(OFLAG_COPIED | 1 << 40)), "qcow2 data cluster offset", L2,
           None, "0x10000000000"),
    Damage("qcow2", "table outside", put(L1, big(OFLAG_COPIED | 1 << 41)), "qcow2 L2 table offset", L1, None,
           "0x20000000000"),
    Damage("qcow2 -c", "cluster outside", put(L2, big(CompressedDescriptor.pack(1 << 40, 9, 16))),
           "qcow2 compressed cluster is out of range", L2, None, "0x10000000000 to 0x10000000200"),
    Damage("vmdk", "directory outside", in_vmdk("gdOffset", 1 << 30), "VMDK gdOffset is impossible", 56, None,
           str(1 << 30)),
    Damage("vmdk", "table outside", put(DIRECTORY, little(1 << 31)), "VMDK grain table 0 lies past the end", DIRECTORY,
           None, str(1 << 31)),
    Damage("vmdk", "grain outside", put(TABLE, little(1 << 31)), "VMDK grain lies past the end", TABLE, None,
           str(1 << 31)),
    Damage("vhd dynamic", "block outside", put(BAT_OF_VHD, big(1 << 30, 4)), "VHD entry of block 0", BAT_OF_VHD, None,
           "0x8000000000"),
    Damage("vhdx", "block outside", put(BAT, little(1 << 40 | 6, 8)), "VHDX BAT entry is wrong", BAT, None,
           "0x10000000000"),
    Damage("tar", "piece outside", in_tar("tail", bytes(41) + b"77777777777\0"), "tar sparse map is impossible", SPARSE,
           None, "4096 bytes at 8589934591"),
    Damage("zip", "directory outside", in_zip_end("central_directory_offset", little(1 << 31)),
           "zip directory does not end", None, None, None),
    # used twice
    Damage("qcow2", "two guests", copied(L2, L2 + 8, 8), "qcow2 cluster 5 is used twice", DATA, "one use",
           "guest cluster 0 and guest cluster 1"),
    Damage("qcow2 -c", "two guests", copied(L2, L2 + 8, 8), "qcow2 compressed clusters overlap", DATA, None,
           f"{DATA:#x}"),
    Damage("vmdk", "two grains", copied(TABLE, TABLE + 4, 4), "VMDK grain overlaps", TABLE + 4, None, "128"),
    Damage("vhd dynamic", "two blocks", copied(BAT_OF_VHD, BAT_OF_VHD + 4, 4), "VHD entry of block 1", BAT_OF_VHD + 4,
           None, None),
    Damage("vhdx", "two blocks", copied(BAT, BAT + 8, 8), "VHDX BAT entry is wrong", BAT + 8,
           f"a block at {FIRST_BLOCK + MIB:#x} or more", f"{FIRST_BLOCK:#x}"),
    Damage("tar", "two pieces", then(copied(SPARSE, SPARSE + 24, 24), seal_tar), "tar sparse map is impossible",
           SPARSE, None, "4096 bytes at 0"),
    # loops
    Damage("qcow2", "L1 as L2", put(L1, big(OFLAG_COPIED | L1)), "qcow2 cluster 3 is used twice", L1, "one use",
           "the L1 table and L2 table 0"),
    Damage("qcow2", "L2 as data", put(L2, big(OFLAG_COPIED | L2)), "qcow2 cluster 4 is used twice", L2, "one use",
           "L2 table 0 and guest cluster 0"),
    Damage("qcow2", "refcount table as block", put(REFCOUNT_TABLE, big(REFCOUNT_TABLE)),
           "qcow2 cluster 1 is used twice", REFCOUNT_TABLE, "one use", "the refcount table and refcount block 0"),
    Damage("vmdk", "directory as table", put(DIRECTORY, little(DIRECTORY // SECTOR)),
           "VMDK grain table that is not behind its directory", DIRECTORY, "27", "26", kind=UnsupportedError),
    Damage("vhd dynamic", "table as block", put(BAT_OF_VHD, big(BAT_OF_VHD // 512, 4)), "VHD entry of block 0",
           BAT_OF_VHD, None, f"{BAT_OF_VHD:#x}"),
    Damage("vhdx", "table as block", put(BAT, little(BAT | 6, 8)), "VHDX BAT entry is wrong", BAT, None, f"{BAT:#x}"),
    # reference counts
    Damage("qcow2", "shared", put(REFCOUNTS + 2 * 5, big(2, 2)),
           "this qcow2 metadata would not be written back exactly: the reference count of cluster 5 differs",
           REFCOUNTS + 11, "byte 0x01", "0x02", kind=UnsupportedError),
    Damage("qcow2", "leaked", put(REFCOUNTS + 2 * 50, big(1, 2)),
           "this qcow2 metadata would not be written back exactly: the reference count of cluster 50 differs",
           REFCOUNTS + 101, "byte 0x00", "0x01", kind=UnsupportedError),
    Damage("qcow2", "block outside", put(REFCOUNT_TABLE, big(1 << 40)), "qcow2 refcount block offset", REFCOUNT_TABLE,
           None, "0x10000000000"),
    # checksums
    Damage("vhd", "checksum", flipped(-512 + 24), "VHD checksum", SIZE + 64, None, None),
    Damage("vhd dynamic", "checksum", flipped(512 + 40), "VHD checksum", 512 + 36, None, None),
    Damage("vhdx", "header", flipped(65536 + 8), "VHDX header 1 Checksum", 65536 + 4, None, None),
    Damage("vhdx", "regions", flipped(256 * 1024 + 40), "VHDX region table Checksum", 256 * 1024 + 4, None, None),
    Damage("vhdx", "log", flipped(MIB + 200), "VHDX log entry Checksum", MIB + 4, None, None),
    Damage("tar", "checksum", put(0, b"R"), "tar header with a wrong checksum", 148, None, None),
    Damage("gzip", "CRC32", put(-8, bytes(4)), "gzip CRC32", None, None, "0x0"),
    Damage("xz", "header", put(8, bytes(4)), "xz header does not fit its own CRC32", 0, None, None),
    Damage("xz", "index", put(-16, bytes(4)), "CRC32 of the xz index", None, None, "00000000"),
    Damage("xz", "footer", put(-12, bytes(4)), "xz footer does not fit its own CRC32", None, None, None),
    Damage("zip", "CRC", in_zip_directory("crc_32", bytes(4)), "zip crc_32", None, None, "0x0"),
    # damaged data
    Damage("qcow2 -c", "data", put(DATA, b"\xff"), "qcow2 compressed cluster can't be", DATA,
           "guest cluster 0, 65536 bytes", "Error -3 while decompressing data: invalid block type"),
    Damage("vmdk", "data", put(GRAINS + 12, b"\0"), "VMDK grain 0 can't be decompressed", GRAINS + 12, None,
           "Error -3 while decompressing data: incorrect header check"),
    Damage("vmdk", "another grain", put(GRAINS, little(5)), "VMDK grain marker is of another grain", GRAINS,
           f"sector 0 of {SIZE // 512}", "5"),
    Damage("gzip", "data", put(10, b"\xff"), "gzip stream is damaged", 10, "a deflate stream", None),
    Damage("xz", "data", put(30, b"\xff" * 9), "xz stream is damaged", None, None, "Corrupt input data"),
    Damage("zip", "data", put(64, b"\xff" * 9), "zip member is damaged", None, "a deflate stream", None),
    # truncated
    Damage("qcow2", "truncated", cut(L2), "qcow2 L2 table offset is out of range", L1, None, f"{L2:#x}"),
    Damage("qcow2", "header only", cut(80), "HeaderV3 is cut short", None, "32 bytes", "8 bytes"),
    Damage("qcow2 -c", "truncated", cut(DATA + 100), "qcow2 compressed cluster", None, None, None),
    Damage("vmdk", "truncated", cut(GRAINS + 100), "VMDK grain lies past the end", None, None, None),
    Damage("vmdk", "tables only", cut(TABLE), "VMDK overHead is impossible", 64, None, "128"),
    Damage("vhd", "truncated", cut(-1), "VHD cookie", SIZE - 1, "conectix", None),
    Damage("vhd", "front lost", lambda file: file[512:], "VHD current_size", SIZE - 512 + 48, None, str(SIZE)),
    Damage("vhd dynamic", "truncated", cut(-MIB), "VHD cookie", None, "conectix", None),
    Damage("vhdx", "truncated", cut(FIRST_BLOCK + MIB + 5), "VHDX BAT entry is wrong", None, None, None),
    Damage("vhdx", "header only", cut(MIB), "too short for a VHDX", 0, None, str(MIB)),
    Damage("tar", "truncated", cut(5000), "tar member reaches past the end of the file", 124, None, None),
    Damage("tar", "within a header", cut(500), "tar ends within a header", 0, "512 bytes", "500 bytes"),
    Damage("gzip", "truncated", cut(-9), "gzip stream is truncated", None, "the end of the stream", "that of the file"),
    Damage("gzip", "trailer", cut(-3), "Trailer is cut short", None, "8 bytes", "5 bytes"),
    Damage("xz", "truncated", cut(-7), "xz footer is not there", None, "595a", None),
    Damage("xz", "header only", cut(5), "StreamHeader is cut short", 0, "12 bytes", "5 bytes"),
    Damage("zip", "truncated", cut(-2), "zip end record is not there", None, "504b0506", None),
    # lying sizes
    Damage("qcow2", "disk", in_qcow2("size", 1 << 50, 8), "qcow2 l1_size is impossible", 36, None, "1"),
    Damage("qcow2", "L1", in_qcow2("l1_size", 1 << 31, 4), "qcow2 l1_size is impossible", 36, None, str(1 << 31)),
    Damage("qcow2", "refcount table", in_qcow2("refcount_table_clusters", 1 << 30, 4),
           "qcow2 refcount_table_clusters is impossible", 56, None, str(1 << 30)),
    Damage("vmdk", "disk", in_vmdk("capacity", 1 << 40), "VMDK capacity is impossible", 12, None, str(1 << 40)),
    Damage("vmdk", "grain", put(GRAINS + 8, little(1 << 30)), "VMDK grain has an impossible size", GRAINS + 8, None,
           str(1 << 30)),
    Damage("vhd", "disk", in_footer("current_size", big(1 << 50)), "VHD current_size", SIZE + 48, None, str(1 << 50)),
    Damage("vhdx", "disk", put(ITEMS + 8, little(1 << 60, 8)), "VHDX VirtualDiskSize", ITEMS + 8, None, str(1 << 60)),
    Damage("tar", "size", in_tar("size", b"77777777777\0"), "tar sparse map is impossible", SPARSE, None, None),
    Damage("gzip", "ISIZE", put(-4, little(7)), "gzip ISIZE", None, f"{SIZE:#x}", "0x7"),
    Damage("xz", "more", xz_index(SIZE + 1), "xz stream is damaged", None, None, "Corrupt input data"),
    Damage("xz", "less", xz_index(SIZE - 1), "xz blocks hold more than the index says", 24,
           f"{SIZE - 1} bytes of content", None),
    Damage("zip", "more", in_zip_directory("uncompressed_size", little(SIZE + 1)), "zip member has another size", None,
           f"{SIZE} bytes", str(SIZE + 1)),
    Damage("zip", "less", in_zip_directory("uncompressed_size", little(9)), "zip member has another size", None,
           "more than 9 bytes", "9"),
    Damage("zip", "data", in_zip_directory("compressed_size", little(100)), "zip member's data ends elsewhere", None,
           "more bytes", "100 bytes"),
    # features that are not read, by name
    refused("qcow2", "snapshots", in_qcow2("nb_snapshots", 3, 4), "qcow2 with snapshots", 60, "nb_snapshots 0", "3"),
    refused("qcow2", "encryption", in_qcow2("crypt_method", 2, 4), "qcow2 with encryption", 32, "crypt_method 0", "2"),
    refused("qcow2", "backing file", in_qcow2("backing_file_offset", 512, 8), "qcow2 with a backing file", 8,
            "backing_file_offset 0", "512"),
    refused("qcow2", "external data", put(72, big(4)), "qcow2 with incompatible features EXTERNAL_DATA_FILE", 72,
            "0x8 or 0", "0x4"),
    refused("qcow2", "version", in_qcow2("version", 9, 4), "unknown qcow2 version", 4, "2 or 3", "9"),
    refused("vmdk", "zero grains", in_vmdk("flags", 0x30007, 4), "VMDK with flags 0x30007", 8, "0x30002", "0x30007"),
    refused("vmdk", "version", in_vmdk("version", 9, 4), "VMDK version 9", 4, "1, 2 or 3", "9"),
    refused("vhd", "differencing", in_footer("disk_type", big(4, 4)), "differencing VHD", SIZE + 60, "2 or 3", "4"),
    refused("vhd", "version", in_footer("file_format_version", big(9, 4)), "unknown VHD version", SIZE + 12,
            "0x10000", "0x9"),
    refused("vhdx", "parent", put(ITEMS + 4, little(2)), "VHDX with a parent", ITEMS + 4, "flags 0", "2"),
    refused("zip", "several members", in_zip_end("entries", little(2, 2)), "zip file of other than one member", None,
            "1", "2"),
    refused("gzip", "comment", put(3, b"\x10"), "gzip header with optional parts", 3, "flags 0 or 0x8", "0x10"),
]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("row", TABLE_OF_DAMAGE, ids=lambda row: f"{row.container}, {row.what}")
def test_damage_is_told(good: dict[str, bytes], row: Damage) -> None:
    with pytest.raises(row.kind) as caught:
        LAYERS[row.container].unwrap(BytesSource(row.edit(good[row.container])), PATH)
    error = caught.value
    check_complete(error)
    assert error.message.startswith(row.words)
    told = {"offset": error.offset, "expected": str(error.expected), "actual": str(error.actual)}
    wanted = {"offset": row.offset, "expected": row.expected, "actual": row.actual}
    assert {key: told[key] for key, value in wanted.items() if value is not None} == {
        key: value for key, value in wanted.items() if value is not None
    }
    assert (error.offset or 0) <= len(good[row.container])


@pytest.mark.oracle
def test_a_vhdx_whose_log_must_be_replayed(good: dict[str, bytes]) -> None:
    at = c_vhdx.HEADER_OFFSETS[0]
    damaged = put(at + c_vhdx.Header.offset_of("LogGuid"), b"\1" * 16)(good["vhdx"])
    damaged = put(at, vhdx_tables.sealed(damaged[at : at + c_vhdx.HEADER_SIZE]))(damaged)
    with pytest.raises(UnsupportedError, match="log that must be replayed") as caught:
        LAYERS["vhdx"].unwrap(BytesSource(damaged), PATH)
    check_complete(caught.value)
    assert caught.value.offset == at + c_vhdx.Header.offset_of("LogGuid")


BOMB = 256 * MIB
MADE_AT_MOST = 24 * MIB  # what taking a file apart may allocate, whatever it says to hold


@pytest.mark.oracle
@pytest.mark.parametrize("container", ["qcow2 -c", "vmdk", "xz", "zip"])
def test_a_bomb_is_stopped(good: dict[str, bytes], container: str) -> None:
    """256 MiB of zeros where a cluster, a grain or a few bytes should be: no more than those are made of them."""
    match container:
        case "qcow2 -c":
            damaged = packed_cluster(bytes(BOMB))(good[container].ljust(2 * MIB, b"\0"))
        case "vmdk":
            stream = zlib.compress(bytes(BOMB), 9)
            place = GRAINS + GrainMarker.offset_of("size")
            damaged = put(place, little(131072) + stream[:131072])(good[container])
        case "xz":
            damaged = xz_index(9)(lzma.compress(bytes(BOMB), preset=0))
        case _:
            work = subprocess.run(["zip", "-q", "-", "-"], input=bytes(BOMB), check=True, capture_output=True).stdout
            damaged = in_zip_directory("uncompressed_size", little(9))(work)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError) as caught:
            LAYERS[container].unwrap(BytesSource(damaged), PATH)
        made = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    check_complete(caught.value)
    assert made < MADE_AT_MOST


def test_a_gzip_bomb_ends_at_what_the_metadata_says(tmp_path: Path) -> None:
    (path := tmp_path / "x.gz").write_bytes(gzip.compress(bytes(BOMB), 1))
    made: list[int] = []
    with pytest.raises(CorruptError, match="holds more than its metadata says") as caught:
        made.extend(map(len, pieces(path, "gzip", 3 * MIB)))
    check_complete(caught.value, path)
    assert sum(made) == 3 * MIB
