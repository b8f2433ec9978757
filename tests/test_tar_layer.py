"""The tar layer on archives that the real tar (and Python's) wrote: exact both ways, or refused by name."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.layers.c_tar import BLOCKSIZE, OldGnuTail, PosixHeader
from rehydrator.layers.table import format_of, layer_for
from rehydrator.layers.tar import TarLayer
from rehydrator.layers.tar_header import checksum
from rehydrator.layers.tar_record import Piece, TarMember, TarRecord
from rehydrator.layers.vmdk_record import VmdkRecord
from tests.support.containers import check_complete
from tests.support.disks import MIB, random_sparse
from tests.test_vmdk import GRAIN, made

LAYER = TarLayer()
PATH = Path("x.tar")
OVF = b'<?xml version="1.0"?>\n<ovf:Envelope>\n</ovf:Envelope>\n'
GNU_SPARSE = ["--format=oldgnu", "--sparse"]


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def sparse_file(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)
        for at, data in pieces:
            stream.seek(at)
            stream.write(data)


def tar(archive: Path, directory: Path, *arguments: str) -> None:
    subprocess.run(["tar", "-C", directory, "-cf", archive, *arguments], check=True, capture_output=True)


def exact(outer: Source) -> tuple[TarRecord, Source]:
    """Unwrap and wrap through the record's JSON; compare; return record and disk."""
    found = format_of(outer)
    assert found is not None
    assert found.name == "tar"
    unwrapped = LAYER.unwrap(outer, PATH)
    record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=TarRecord)
    assert record == unwrapped.record
    wrapped = LAYER.wrap(unwrapped.inner, record)
    assert wrapped.size == outer.size
    assert content(wrapped) == content(outer)
    return record, unwrapped.inner


def scattered(count: int, size: int, seed: int = 1) -> list[tuple[int, bytes]]:
    order = random.Random(seed)
    places = sorted(order.sample(range(0, size - 4096, 8192), count))
    return [(at, order.randbytes(4096)) for at in places]


@pytest.mark.oracle
@pytest.mark.parametrize("count", [0, 1, 4, 5, 25, 26, 70])
@pytest.mark.parametrize("tail", [0, 4096 * 3, 700])
def test_sparse_gnu_archives(tmp_path: Path, count: int, tail: int) -> None:
    size = 2 * MIB + tail
    sparse_file(tmp_path / "disk.raw", size, scattered(count, 2 * MIB))
    tar(tmp_path / "x", tmp_path, *GNU_SPARSE, "disk.raw")
    with FileSource(tmp_path / "x") as outer:
        record, disk = exact(outer)
        assert content(disk) == (tmp_path / "disk.raw").read_bytes()
        assert disk.nonzero() == FileSource(tmp_path / "disk.raw").nonzero()
    assert record.members[0].type == "S"
    assert record.members[0].sparse == "nonzero", "the map follows from the disk"
    assert record.members[0].header == b""
    assert record.padding == "blocked"


@pytest.mark.oracle
def test_more_than_8_gib(tmp_path: Path) -> None:
    """The size of the file no longer fits its field in octal."""
    sparse_file(
        tmp_path / "disk.raw", 10 << 30, [(0, b"a" * 5000), (1 << 33, b"b" * 5000), ((10 << 30) - 10, b"c" * 10)]
    )
    tar(tmp_path / "x", tmp_path, *GNU_SPARSE, "disk.raw")
    with FileSource(tmp_path / "x") as outer:
        record, disk = exact(outer)
        assert disk.size == 10 << 30
        assert bytes(disk.read((1 << 33) - 2, 4)) == b"\0\0bb"
        assert bytes(disk.read((10 << 30) - 12, 12)) == b"\0\0" + b"c" * 10
    assert record.members[0].header == b""


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["ustar", "gnu", "posix", "oldgnu"])
@pytest.mark.parametrize("owner", [[], ["--owner=0", "--group=0"], ["--owner=core:1000", "--group=core:70000000"]])
@pytest.mark.parametrize("size", [0, 511, 512, 600_000])
def test_dense_archives_with_a_descriptor(tmp_path: Path, form: str, owner: list[str], size: int) -> None:
    (tmp_path / "coreos.ovf").write_bytes(OVF)
    (tmp_path / "disk.vmdk").write_bytes(random_sparse(size, size, 0.5))
    if form == "ustar" and "70000000" in str(owner):
        pytest.skip("more than ustar can hold")
    tar(tmp_path / "x", tmp_path, f"--format={form}", *owner, "coreos.ovf", "disk.vmdk")
    with FileSource(tmp_path / "x") as outer:
        record, disk = exact(outer)
    names = [item.name for item in record.members]
    if size > len(OVF):
        assert record.members[record.disk].name == "disk.vmdk"
        assert disk.size == size
        assert record.members[names.index("coreos.ovf")].content == OVF
    assert all(item.header == b"" for item in record.members)
    assert record.style == "gnu" if "gnu" in form else record.style.startswith("ustar")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_archives_without_device_numbers(form: int) -> None:
    """As GNU tar 1.35 and newer writes them, and Python."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as archive:
        for name, content in (("coreos.ovf", OVF), ("disk.vmdk", bytes(600_000))):
            info = tarfile.TarInfo(name)
            info.size, info.uname, info.gname = len(content), "root", "root"
            archive.addfile(info, io.BytesIO(content))
    header = PosixHeader.parse(data.getvalue())
    assert not any(header.devmajor + header.devminor)
    record, _ = exact(BytesSource(data.getvalue()))
    assert record.style == "ustar 1.35"
    assert all(item.header == b"" for item in record.members)


def test_names_that_are_long_or_no_text(tmp_path: Path) -> None:
    for name in ("a" * 90 + "/" + "b" * 90, "dir/" * 60 + "disk", "ä" * 40, "b\udcff"):
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            data = io.BytesIO()
            with tarfile.open(fileobj=data, mode="w", format=form) as archive:
                folder = tarfile.TarInfo("folder")
                folder.type = tarfile.DIRTYPE
                archive.addfile(folder)
                link = tarfile.TarInfo("link")
                link.type, link.linkname = tarfile.SYMTYPE, name[:50]
                archive.addfile(link)
                info = tarfile.TarInfo(name)
                info.size, info.mtime = 5000, 1700000000
                archive.addfile(info, io.BytesIO(b"x" * 5000))
            record, disk = exact(BytesSource(data.getvalue()))
            assert content(disk) == b"x" * 5000
            assert record.members[0].type == "5"


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=30), st.binary(max_size=2000)), min_size=1, max_size=5),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(0, 1 << 31),
)
def test_any_archive_of_python(members: list[tuple[str, bytes]], form: int, mtime: int) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form, encoding="utf-8", errors="surrogatepass") as archive:
        for name, held in members:
            info = tarfile.TarInfo(name.replace("\0", "0"))
            info.size, info.mtime = len(held), mtime
            archive.addfile(info, io.BytesIO(held))
    _, disk = exact(BytesSource(data.getvalue()))
    assert disk.size == max(len(held) for _, held in members)


def test_an_ova_is_a_vmdk_in_a_tar() -> None:
    disk = random_sparse(5, 3 * GRAIN, 0.3)
    vmdk = made(disk)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, held in (("coreos.ovf", OVF), ("disk.vmdk", vmdk)):
            info = tarfile.TarInfo(name)
            info.size = len(held)
            archive.addfile(info, io.BytesIO(held))
    record, inner = exact(BytesSource(data.getvalue()))
    found = format_of(inner)
    assert found is not None
    unwrapped = found.layer.unwrap(inner, PATH)
    assert isinstance(unwrapped.record, VmdkRecord)
    assert content(unwrapped.inner) == disk
    again = layer_for(unwrapped.record).wrap(BytesSource(disk), unwrapped.record, unwrapped.tables)
    assert content(layer_for(record).wrap(again, record)) == data.getvalue()


def test_descriptions() -> None:
    members = [TarMember("coreos.ovf", 0), TarMember("disk.raw", 0, type="S", sparse=[Piece(0, 5), Piece(9, 1)])]
    assert LAYER.describe(TarRecord(members, disk=1)) == "gnu tar of disk.raw in 2 pieces with coreos.ovf"
    assert LAYER.describe(TarRecord(members[:1], style="ustar")) == "ustar tar of coreos.ovf"
    usual = TarMember("disk.raw", 0, type="S", sparse="nonzero")
    assert LAYER.describe(TarRecord([usual])) == "gnu tar of disk.raw without its zeros"


def archive_of(*held: bytes, form: int = tarfile.GNU_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as archive:
        for number, item in enumerate(held):
            info = tarfile.TarInfo(f"file{number}")
            info.size = len(item)
            archive.addfile(info, io.BytesIO(item))
    return data.getvalue()


def sparse_archive() -> bytes:
    """A sparse archive made by this program, as GNU tar would make it."""
    pieces = [Piece(8192 * number, 512 * (number % 3 + 1)) for number in range(30)] + [Piece(300_000, 0)]
    record = TarRecord([TarMember("disk.raw", 1700000000, type="S", sparse=pieces)])
    disk = bytearray(300_000)
    for number, piece in enumerate(pieces):
        disk[piece.offset : piece.offset + piece.length] = bytes([number + 1]) * piece.length
    return content(LAYER.wrap(BytesSource(bytes(disk)), record))


def test_the_made_sparse_archive_is_what_tar_reads(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(sparse_archive())) as archive:
        info = archive.next()
        assert info is not None
        held = archive.extractfile(info)
        assert held is not None
        _, disk = exact(BytesSource(sparse_archive()))
        assert held.read() == content(disk)


def with_field(data: bytes, name: str, value: bytes, at: int = 0) -> bytes:
    """Change a field of the header at ``at`` and make its checksum right."""
    place = at + (
        PosixHeader.offset_of(name)
        if name in PosixHeader._offsets
        else PosixHeader.offset_of("tail") + OldGnuTail.offset_of(name)
    )
    data = data[:place] + value + data[place + len(value) :]
    place = at + PosixHeader.offset_of("chksum")
    return data[:place] + b"%06o\0 " % checksum(data[at : at + BLOCKSIZE]) + data[place + 8 :]


LIES: dict[str, tuple[str, bytes, str]] = {
    "size": ("size", b"77777777777", "sparse map is impossible"),
    "size, base 256": ("size", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "sparse map is impossible"),
    "size, no number": ("size", b"x", "size is not a number"),
    "mode, no number": ("mode", b"9", "mode is not a number"),
    "mtime": ("mtime", b"-1", "mtime is not a number"),
    "magic": ("magic", b"ustor", "magic"),
    "realsize": ("realsize", b"00000000001\0", "sparse map is impossible"),
    "realsize, huge": ("realsize", b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "sparse map is impossible"),
    "sparse offset": ("sp", b"00000777777\0", "sparse map is impossible"),
    "sparse offset, no number": ("sp", b"y", "sparse offset is not a number"),
    "sparse map cut off": ("isextended", b"\0", "sparse map is impossible"),
}


@pytest.mark.parametrize("case", LIES)
def test_lies_in_a_header(case: str) -> None:
    name, value, words = LIES[case]
    with pytest.raises(CorruptError, match=words) as caught:
        LAYER.unwrap(BytesSource(with_field(sparse_archive(), name, value)), PATH)
    check_complete(caught.value, PATH)


def test_a_wrong_checksum() -> None:
    data = archive_of(b"x" * 600)
    with pytest.raises(CorruptError, match="wrong checksum") as caught:
        LAYER.unwrap(BytesSource(data[:3] + b"!" + data[4:]), PATH)
    assert caught.value.offset == PosixHeader.offset_of("chksum")


def test_refused_by_name() -> None:
    cases = {
        "two large files": archive_of(bytes(2 * MIB), bytes(2 * MIB)),
        "without a file": archive_of() + bytes(0),
        "type '6' with content": with_field(archive_of(b"x" * 600), "typeflag", b"6"),
        "two sparse files": sparse_archive()[:-10240].rstrip(b"\0") + bytes(0),
    }
    sparse = sparse_archive()
    end = BLOCKSIZE * 3 + sum(512 * (number % 3 + 1) for number in range(30))
    cases["two sparse files"] = sparse[:end] + sparse
    cases["not be written back exactly|another size"] = archive_of(b"x" * 600)[:-1] + b"!"
    for words, data in cases.items():
        with pytest.raises(UnsupportedError, match=words) as caught:
            LAYER.unwrap(BytesSource(data), PATH)
        check_complete(caught.value, PATH)


def test_too_many_members() -> None:
    data = archive_of(b"")[:BLOCKSIZE] * 1200
    with pytest.raises(UnsupportedError, match="many members"):
        LAYER.unwrap(BytesSource(data), PATH)


@pytest.mark.parametrize(
    ("pax", "words"),
    [
        (b"22 GNU.sparse.major=1\n", "sparse map in a pax header"),
        (b"9 size=x\n", "size is not a number"),
        (b"99 a=b\n", "damaged"),
        (b"0 a=b\n", "damaged"),
        (b"hello", "damaged"),
    ],
)
def test_pax_headers(pax: bytes, words: str) -> None:
    data = archive_of(pax, b"x" * 3000)
    with pytest.raises((CorruptError, UnsupportedError), match=words):
        LAYER.unwrap(BytesSource(with_field(data, "typeflag", b"x")), PATH)


def test_a_pax_header_gives_the_size() -> None:
    data = archive_of(b"13 size=3000\n", b"x" * 3000)
    data = with_field(with_field(data, "typeflag", b"x"), "size", b"00000000000", 2 * BLOCKSIZE)
    record, disk = exact(BytesSource(data))
    assert content(disk) == b"x" * 3000
    assert record.members[0].text == ["13 size=3000", ""]


def test_truncated_anywhere() -> None:
    data = sparse_archive()
    outcomes = set()
    for length in [*range(0, 2000, 37), *range(2000, len(data), 997)]:
        try:
            exact(BytesSource(data[:length])) if length > 300 else LAYER.unwrap(BytesSource(data[:length]), PATH)
            outcomes.add("exact")
        except RehydratorError as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"CorruptError", "UnsupportedError", "exact"}


@pytest.mark.parametrize(
    "changes",
    [
        {"disk": 1},
        {"disk": -1},
        {"padding": -1},
        {"padding": 1 << 60},
        {"members": []},
        {"members": [TarMember("x" * 101, 0)]},
        {"members": [TarMember("x", -1)]},
        {"members": [TarMember("x", 1 << 100)]},
        {"members": [TarMember("x", 0, mode="rwx")]},
        {"members": [TarMember("x", 0, type="xx")]},
        {"members": [TarMember("x", 0, type="S", sparse=[Piece(-1, 5)])]},
        {"members": [TarMember("x", 0, type="S", sparse=[Piece(0, 5000)])]},
        {"members": [TarMember("x", 0, type="S", sparse=[Piece(5, -1)])]},
    ],
    ids=str,
)
def test_forged_records(changes: dict[str, object]) -> None:
    record, _ = exact(BytesSource(archive_of(b"x" * 600)))
    with pytest.raises(MismatchError):
        LAYER.wrap(BytesSource(b"x" * 600), msgspec.structs.replace(record, **changes))


@pytest.mark.parametrize("disk", [1, -1, 1 << 70])
def test_forged_records_are_not_described(disk: int) -> None:
    record, _ = exact(BytesSource(archive_of(b"x" * 600)))
    with pytest.raises(MismatchError, match="names no disk"):
        LAYER.describe(msgspec.structs.replace(record, disk=disk))


def test_reads_of_any_piece() -> None:
    data = sparse_archive()
    _, disk = exact(BytesSource(data))
    wrapped = LAYER.wrap(disk, LAYER.unwrap(BytesSource(data), PATH).record)
    whole = content(disk)
    order = random.Random(1)
    for _ in range(300):
        for source, expected in ((wrapped, data), (disk, whole)):
            at = order.randrange(len(expected))
            length = min(order.choice([1, 100, 5000, 30_000]), len(expected) - at)
            assert bytes(source.read(at, length)) == expected[at : at + length]


@pytest.mark.parametrize("seed", range(2))
def test_no_flip_gets_through(seed: int) -> None:
    """Each damaged archive is refused by one of the project's errors, or given back as it is."""
    order = random.Random(seed)
    originals = [
        (sparse_archive(), 1600),
        (archive_of(b"12 path=abc\n", OVF, b"x" * 3000, form=tarfile.USTAR_FORMAT), 3500),
    ]
    originals[1] = (with_field(originals[1][0], "typeflag", b"x"), 3500)
    outcomes = {"refused": 0, "exact": 0}
    nameless = 0
    for number in range(1500):
        original, reach = originals[number % 2]
        data = bytearray(original)
        for _ in range(order.choice([1, 1, 4])):
            at = order.randrange(reach)
            data[at] = order.choice([0, 0x20, 0x37, 0x80, 0xFF, data[at] ^ 1 << order.randrange(8)])
        for at in range(0, BLOCKSIZE * order.choice([0, 1, 4]), BLOCKSIZE):
            data = bytearray(with_field(bytes(data), "name", bytes(data[at : at + 1]), at))
        try:
            unwrapped = LAYER.unwrap(BytesSource(bytes(data)), PATH)
            assert content(LAYER.wrap(unwrapped.inner, unwrapped.record)) == data
            msgspec.json.encode(unwrapped.record)
            outcomes["exact"] += 1
        except RehydratorError as error:
            nameless += error.path != str(PATH)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30, outcomes
    assert nameless == 0
