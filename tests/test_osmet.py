"""osmet files: read, written, and derived from the disk that they describe."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.codecs.bincode import Integers, Reader
from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.osmet.c_osmet import DIGEST_SIZE, Mapping, Osmet, OsmetFileHeader, OsmetPartition
from rehydrator.osmet.derive import osmet_of, record_of
from rehydrator.osmet.record import MappingChange, OsmetRecord, TableChanges, changed, changes_between
from rehydrator.osmet.table import pack, packed_image, read_osmet
from release_builder import osmet as packer
from release_builder.bincode import FIXED, VARIABLE
from tests.support.disks import MIB
from tests.support.osmets import ARCHITECTURE, DESCRIPTION, Made, make

PATH = Path("metal.osmet")
HEADER = OsmetFileHeader("0.26.0", 512, DESCRIPTION, ARCHITECTURE)


def whole(source: Source) -> bytes:
    return b"".join(bytes(source.read(at, min(CHUNK, source.size - at))) for at in range(0, source.size, CHUNK))


# -- bincode


@given(st.lists(st.integers(0, (1 << 64) - 1)), st.text(), st.sampled_from(Integers))
def test_bincode(values: list[int], text: str, integers: Integers) -> None:
    data = b"".join(integers.u64(value) for value in values) + integers.string(text) + integers.u32(7)
    reader = Reader(BytesSource(data), integers)
    assert [reader.u64() for _ in values] == values
    assert (reader.string(len(data), "text"), reader.u32(), reader.at) == (text, 7, len(data))


@pytest.mark.parametrize(
    ("value", "encoded"),  # the examples of the specification
    [
        (0, "00"),
        (250, "fa"),
        (251, "fbfb00"),
        (65535, "fbffff"),
        (65536, "fc00000100"),
        (1 << 32, "fd0000000001000000"),
    ],
)
def test_variable_integers(value: int, encoded: str) -> None:
    assert Integers.VARIABLE.u64(value).hex() == encoded


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file ends within a value"),
        (b"\xfb\x01", "the file ends within a value"),
        (b"\xfd" + bytes(8), "impossible integer"),  # more than 32 bits
        (b"\xfe" + bytes(16), "impossible integer"),
    ],
)
def test_impossible_integers(data: bytes, words: str) -> None:
    with pytest.raises(CorruptError, match=words):
        Reader(BytesSource(data), Integers.VARIABLE).u32()


# -- the table


def mappings() -> st.SearchStrategy[list[Mapping]]:
    steps = st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(1, 1 << 20))
    names = st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE)

    def laid(rows: list[tuple[tuple[int, int, int], bytes]]) -> list[Mapping]:
        found, at = [], 0
        for (logical, gap, length), name in rows:
            found.append(Mapping(logical, at + gap, length, name))
            at = found[-1].end
        return found

    return st.lists(st.tuples(steps, names), max_size=20).map(laid)


def table_of(rows: list[list[Mapping]], integers: Integers) -> Osmet:
    size = 64 * MIB
    partitions = [OsmetPartition(size * number, size * (number + 1), row) for number, row in enumerate(rows, 1)]
    return Osmet(HEADER, partitions, bytes(range(DIGEST_SIZE)), size * (len(rows) + 2), integers, 0)


@given(st.lists(mappings(), min_size=1, max_size=3), st.sampled_from(Integers))
def test_what_was_packed_is_read(rows: list[list[Mapping]], integers: Integers) -> None:
    osmet = table_of(rows, integers)
    data = pack(osmet)
    found = read_osmet(BytesSource(data + b"\xfd7zXZ\0"), PATH)
    assert found == msgspec.structs.replace(osmet, xz_offset=len(data))


@given(mappings(), mappings())
def test_changes(derived: list[Mapping], actual: list[Mapping]) -> None:
    partition = OsmetPartition(0, 1 << 40, derived)
    assert changed(partition, changes_between(derived, actual)).mappings == actual


GOOD = pack(table_of([[Mapping(0, 4096, 4096, bytes(DIGEST_SIZE))], []], Integers.FIXED))
STRINGS = 8 + 4 + 8 + len(HEADER.app_version) + 4 + 8 + len(HEADER.os_description) + 8 + len(HEADER.os_architecture)
START, END, COUNT, LOGICAL, PHYSICAL, LENGTH = (STRINGS + 8 * number for number in range(1, 7))


def put(at: int, value: int, size: int = 8) -> bytes:
    return GOOD[:at] + value.to_bytes(size, "little") + GOOD[at + size :]


@pytest.mark.parametrize(
    ("data", "words", "offset", "kind"),
    [
        (b"OSMET\0\0\1" + GOOD[8:], "not an osmet file", 0, CorruptError),
        (b"", "not an osmet file", 0, CorruptError),
        (GOOD[:8] + b"\2" + GOOD[9:], "osmet file of another version", 8, UnsupportedError),
        (put(12, 1 << 40), "impossible length of app_version", 12, CorruptError),
        (put(20, 0xFF, 1), "app_version is no text", 20, CorruptError),
        (put(STRINGS, 1000), "impossible number of partitions", STRINGS, CorruptError),
        (put(STRINGS, 0), "impossible partitions", None, CorruptError),
        (put(COUNT, 1 << 30), "impossible number of mappings", COUNT, CorruptError),
        (put(PHYSICAL, 1 << 40), "impossible mapping", LOGICAL, CorruptError),
        (put(LENGTH, 65 * MIB), "impossible mapping", LOGICAL, CorruptError),
        (put(START, 0), "impossible partitions", None, None),  # a larger partition is one
        (put(END, 200 * MIB), "impossible partitions", len(GOOD) - 8, CorruptError),
        (put(len(GOOD) - 8, 1 << 50), "impossible partitions", len(GOOD) - 8, CorruptError),
        (GOOD[:-1], "the file ends within a value", len(GOOD) - 8, CorruptError),
    ],
)
def test_damage_is_told(data: bytes, words: str, offset: int | None, kind: type[RehydratorError] | None) -> None:
    if kind is None:
        read_osmet(BytesSource(data), PATH)
        return
    with pytest.raises(kind, match=words) as caught:
        read_osmet(BytesSource(data), PATH)
    assert caught.value.path == str(PATH)
    assert offset is None or caught.value.offset == offset


def test_the_packed_image_is_what_no_mapping_covers() -> None:
    disk = bytes(range(256)) * 64
    rows = [OsmetPartition(1000, 9000, [Mapping(0, 0, 10, b""), Mapping(0, 10, 90, b""), Mapping(0, 500, 4, b"")])]
    image = packed_image(BytesSource(disk), rows)
    assert whole(image) == disk[:1000] + disk[1100:1500] + disk[1504:]


# -- from the disk


@pytest.fixture(scope="module", params=[(512, VARIABLE), (4096, FIXED)])
def made(request: pytest.FixtureRequest, need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Made:
    need("mkfs.ext4", "mkfs.xfs", "sfdisk", root=True)
    return make(tmp_path_factory.mktemp("osmet"), *request.param)


@pytest.mark.oracle
def test_it_follows_from_its_disk(made: Made) -> None:
    with FileSource(made.osmet) as file, FileSource(made.disk) as disk:
        record = record_of(file, disk, made.osmet)
        assert record.integers is {512: Integers.VARIABLE, 4096: Integers.FIXED}[record.sector_size]
        assert (record.app_version, record.os_description) == (packer.INSTALLER_VERSION, HEADER.os_description)
        assert record.stream.encoder == "liblzma-0"
        # Of two names for the same extents the packer took another than the lowest; nothing else is kept.
        assert [(len(item.without), len(item.also)) for item in record.changes] == [(0, 0), (1, 1)]
        again = msgspec.json.decode(msgspec.json.encode(record), type=OsmetRecord)
        assert whole(osmet_of(disk, again)) == made.osmet.read_bytes()
        table = read_osmet(file, made.osmet)
        assert len({item.object for item in table.partitions[0].mappings}) == 2, "the kernel, and a file in pieces"
        assert len(table.partitions[0].mappings) > 2
        assert table.checksum.hex() == hashlib.sha256(made.disk.read_bytes()).hexdigest()


@pytest.mark.oracle
def test_the_disk_follows_from_it(made: Made) -> None:
    """The objects and the rest of the packed image give the disk: what the live system does."""
    with FileSource(made.osmet) as file, FileSource(made.disk) as disk:
        table = read_osmet(file, made.osmet)
        covered = sum(item.length for part in table.partitions for item in part.mappings)
        assert packed_image(disk, table.partitions).size == table.size - covered
        for before, after in itertools.pairwise(table.partitions[1].mappings):
            assert before.end <= after.physical


@pytest.mark.oracle
def test_files_of_other_disks_are_refused(made: Made, release_dir: Path) -> None:
    with FileSource(made.osmet) as file, FileSource(made.disk) as disk:
        record = record_of(file, disk, made.osmet)
        with pytest.raises(UnsupportedError, match="of another disk"):
            record_of(file, BytesSource(bytes(MIB)), made.osmet)
        with pytest.raises(UnsupportedError, match="no file system that can be read"):
            osmet_of(BytesSource(bytes(MIB)), record)
        for forged in (
            msgspec.structs.replace(record, checksum="00"),
            msgspec.structs.replace(record, changes=[TableChanges()]),
            msgspec.structs.replace(
                record, changes=[TableChanges(), TableChanges(also=[MappingChange(0, 0, 1, "no")])]
            ),
            msgspec.structs.replace(
                record, changes=[TableChanges(also=[MappingChange(0, 1 << 40, 1, "00" * 32)]), TableChanges()]
            ),
        ):
            with pytest.raises(MismatchError):
                osmet_of(disk, forged)
