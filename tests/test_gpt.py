"""Partition tables by the real sfdisk and by hand: names, bounds, and nothing without a region."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.c_gpt import GptEntry, GptHeader
from rehydrator.disk.extents import Extent
from rehydrator.disk.gpt import PartitionTable, read_table
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import CorruptError
from tests.support.disks import MIB, PARTITIONS, with_gpt

SCRIPT = """label: gpt
label-id: 00000000-0000-4000-a000-000000000001
first-lba: 34
1: start=2048, size=2048, name=BIOS-BOOT, type=21686148-6449-6E6F-744E-656564454649
2: start=4096, size=8192, name=EFI-SYSTEM, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
4: start=14336, size=6144, name=root
3: start=12288, size=2048, name=boot
"""


def names(table: PartitionTable) -> list[str]:
    return [region.name for region in table.regions]


def check_cover(table: PartitionTable, size: int) -> None:
    """The regions follow each other from the first byte to the last."""
    at = 0
    for region in table.regions:
        assert region.extent.offset == at
        assert region.extent.length > 0
        at = region.extent.end
    assert at == size


@pytest.mark.oracle
def test_table_of_sfdisk(tmp_path: Path, need: Callable[..., None]) -> None:
    need("sfdisk")
    path = tmp_path / "disk"
    with path.open("wb") as out:
        out.truncate(16 * MIB)
    subprocess.run(["sfdisk", "-q", path], input=SCRIPT.encode(), check=True)
    with FileSource(path) as disk:
        table = read_table(disk)
    assert table.sector_size == 512
    assert names(table) == ["mbr", "gpt", "gap", "p1 BIOS-BOOT", "p2 EFI-SYSTEM", "p3 boot", "p4 root", "backup gpt"]
    check_cover(table, 16 * MIB)
    assert table.regions[5].extent == Extent(12288 * 512, 2048 * 512)


@pytest.mark.oracle
def test_table_of_sfdisk_with_large_sectors(tmp_path: Path, need: Callable[..., None]) -> None:
    need("sfdisk", "losetup", root=True)
    path = tmp_path / "disk"
    with path.open("wb") as out:
        out.truncate(16 * MIB)
    made = subprocess.run(
        ["losetup", "--find", "--show", "--sector-size", "4096", path], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    try:
        script = "label: gpt\n1: start=256, size=256, name=boot\n2: start=512, size=1024, name=root\n"
        subprocess.run(["sfdisk", "-q", made.stdout.strip()], input=script.encode(), check=True, capture_output=True)
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)
    with FileSource(path) as disk:
        table = read_table(disk)
    assert table.sector_size == 4096
    assert [region.extent for region in table.regions if region.name == "p2 root"] == [Extent(2 * MIB, 4 * MIB)]
    check_cover(table, 16 * MIB)


@pytest.mark.parametrize("sector", [512, 4096])
def test_table_by_hand(sector: int) -> None:
    table = read_table(BytesSource(with_gpt(bytes(4 * MIB), sector=sector)))
    assert table.sector_size == sector
    assert names(table)[-6:-1] == ["gap", *(f"p{number} {name}" for number, name, _, _ in PARTITIONS)]
    check_cover(table, 4 * MIB)


@pytest.mark.parametrize("more", [1, 512, 5 * MIB])
def test_a_grown_disk_has_a_tail(more: int) -> None:
    table = read_table(BytesSource(with_gpt(bytes(4 * MIB)) + bytes(more)))
    assert names(table)[-2:] == ["backup gpt", "tail"]
    check_cover(table, 4 * MIB + more)


@pytest.mark.parametrize("size", [0, 1, 512, 1024, 5000, MIB])
def test_no_table(size: int) -> None:
    table = read_table(BytesSource(b"x" * size))
    assert table.regions[0].name == "disk"
    assert table.regions[0].extent == Extent(0, size)


@given(st.integers(0, 4 * MIB), st.integers(0, 2 * MIB))
def test_split(offset: int, length: int) -> None:
    table = read_table(BytesSource(with_gpt(bytes(4 * MIB))))
    extent = Extent(offset, min(length, 4 * MIB - offset))
    pieces = list(table.split(extent))
    at = extent.offset
    for region, piece in pieces:
        assert piece.offset == at
        assert region.extent.offset <= piece.offset < piece.end <= region.extent.end
        at = piece.end
    assert at == extent.end


def sealed(disk: bytearray) -> bytes:
    """Make both checksums of the primary table right again."""
    entries = bytes(disk[1024 : 1024 + 128 * GptEntry.SIZE])
    struct.pack_into("<I", disk, 512 + GptHeader.offset_of("PartitionEntryArrayCRC32"), zlib.crc32(entries))
    struct.pack_into("<I", disk, 512 + GptHeader.offset_of("HeaderCRC32"), 0)
    (length,) = struct.unpack_from("<I", disk, 512 + GptHeader.offset_of("HeaderSize"))
    crc = zlib.crc32(bytes(disk[512 : 512 + length]))
    struct.pack_into("<I", disk, 512 + GptHeader.offset_of("HeaderCRC32"), crc)
    return bytes(disk)


def patched(name: str, value: int, kind: type[GptHeader | GptEntry], base: int) -> bytearray:
    disk = bytearray(with_gpt(bytes(4 * MIB)))
    wide = name.endswith("LBA")
    struct.pack_into("<Q" if wide else "<I", disk, base + kind.offset_of(name), value)
    return disk


HEADER, FIRST, SECOND = 512, 1024, 1024 + GptEntry.SIZE
DAMAGES: dict[str, tuple[str, int, type[GptHeader | GptEntry], int, bool, str]] = {
    "header checksum": ("HeaderCRC32", 1, GptHeader, HEADER, False, "header checksum"),
    "header field": ("FirstUsableLBA", 35, GptHeader, HEADER, False, "header checksum"),
    "header size": ("HeaderSize", 0xFFFFFFFF, GptHeader, HEADER, False, "header size"),
    "header size, short": ("HeaderSize", 10, GptHeader, HEADER, False, "header size"),
    "entry": ("StartingLBA", 129, GptEntry, FIRST, False, "checksum"),
    "entry size": ("SizeOfPartitionEntry", 64, GptHeader, HEADER, True, "impossible GPT entry array"),
    "entry count": ("NumberOfPartitionEntries", 1 << 31, GptHeader, HEADER, True, "impossible GPT entry array"),
    "entry place": ("PartitionEntryLBA", 1 << 40, GptHeader, HEADER, True, "impossible GPT entry array"),
    "overlap": ("StartingLBA", 400, GptEntry, SECOND, True, "overlaps or leaves"),
    "past the end": ("EndingLBA", 1 << 40, GptEntry, SECOND, True, "overlaps or leaves"),
    "backwards": ("EndingLBA", 3, GptEntry, SECOND, True, "overlaps or leaves"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_tables(case: str) -> None:
    name, value, kind, base, seal, words = DAMAGES[case]
    disk = patched(name, value, kind, base)
    with pytest.raises(CorruptError, match=words) as caught:
        read_table(BytesSource(sealed(disk) if seal else bytes(disk)))
    assert caught.value.offset is not None


@given(st.integers(512, 2048), st.integers(1, 255))
def test_no_flip_brings_the_reader_down(at: int, mask: int) -> None:
    disk = bytearray(with_gpt(bytes(4 * MIB)))
    disk[at] ^= mask
    for data in (bytes(disk), sealed(disk) if not 524 <= at < 528 else bytes(disk)):
        try:
            check_cover(read_table(BytesSource(data)), 4 * MIB)
        except CorruptError:
            continue


@pytest.mark.parametrize("cut", [1, 100, 512])
def test_a_cut_off_backup_stays_within_the_disk(cut: int) -> None:
    disk = with_gpt(bytes(4 * MIB))[:-cut]
    check_cover(read_table(BytesSource(disk)), len(disk))
