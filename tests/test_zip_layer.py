"""The zip layer on files that Info-ZIP and Python wrote: exact both ways, damage named."""

from __future__ import annotations

import datetime
import io
import random
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.binary import Structure
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.layers.c_zip import CentralDirectoryHeader, EndLocator64, EndRecord, EndRecord64, LocalFileHeader
from rehydrator.layers.table import format_of
from rehydrator.layers.zip import ZipLayer
from rehydrator.layers.zip_end import pack_end64
from rehydrator.layers.zip_extra import pack_extra, parse_extra
from rehydrator.layers.zip_frame import zip_frame
from rehydrator.layers.zip_read import member_content, read_member
from rehydrator.layers.zip_record import ZipEnd64, ZipExtra, ZipLarge, ZipOther, ZipOwner, ZipRecord, ZipTimes
from tests.support.containers import check_complete
from tests.support.disks import MIB, random_sparse
from tests.test_deflate import text

LAYER = ZipLayer()
PATH = Path("x.zip")
CONTENT = text(3, 300_000) + random_sparse(1, MIB + 77, 0.1) + bytes(100_000)


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def exact(data: bytes) -> tuple[ZipRecord, bytes]:
    found = format_of(BytesSource(data))
    assert found is not None
    assert found.name == "zip"
    unwrapped = LAYER.unwrap(BytesSource(data), PATH)
    record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=ZipRecord)
    inner = content(unwrapped.inner)
    assert content(LAYER.wrap(BytesSource(inner), record)) == data
    return record, inner


@pytest.fixture
def by_program(tmp_path: Path, need: Callable[..., None]) -> Callable[..., bytes]:
    """Return a function that lets the real zip pack a file, into a file or a pipe, or from a pipe."""
    need("zip")

    def pack(*options: str, held: bytes = CONTENT, into: str = "file") -> bytes:
        path = tmp_path / "fedora-coreos-hyperv.x86_64.vhdx"
        path.write_bytes(held)
        command = ["zip", "-q", *options, "-", "-" if into == "stream" else str(path)]
        if into == "file":
            with (tmp_path / "out").open("wb") as out:
                subprocess.run(command, stdout=out, check=True)
            return (tmp_path / "out").read_bytes()
        return subprocess.run(command, input=held, capture_output=True, check=True).stdout

    return pack


@pytest.mark.oracle
@pytest.mark.parametrize("into", ["file", "pipe", "stream"])
@pytest.mark.parametrize("level", range(10))
def test_files_of_info_zip(by_program: Callable[..., bytes], level: int, into: str) -> None:
    """Into a file the headers are patched, into a pipe a descriptor follows, and from a pipe sizes are large ones."""
    if (level, into) == (0, "stream"):
        pytest.skip("zip refuses to do that")
    data = by_program(f"-{level}j", into=into)
    record, inner = exact(data)
    assert inner == CONTENT
    assert record.deflate in (
        {8: ("gzip-8", "gzip-9"), 9: ("gzip-8", "gzip-9"), 0: (None,)}.get(level, (f"gzip-{level}",))
    )
    assert record.name == ("-" if into == "stream" else "fedora-coreos-hyperv.x86_64.vhdx")
    kinds = [type(item) for item in record.extra]
    assert kinds == ([ZipLarge] if into == "stream" else [ZipTimes, ZipOwner])
    assert len(msgspec.json.encode(record)) < 450


@pytest.mark.oracle
@pytest.mark.parametrize("held", [b"", b"a", bytes(5000), random.Random(1).randbytes(50_000)], ids=len)
@pytest.mark.parametrize("options", ["-9j", "-9jX"])
def test_short_content(by_program: Callable[..., bytes], held: bytes, options: str) -> None:
    """Content of next to nothing is stored."""
    record, inner = exact(by_program(options, held=held))
    assert inner == held
    assert (record.deflate is None) == (len(held) in (0, 1))
    assert bool(record.extra) == (options == "-9j")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("level", [1, 6, 9])
def test_files_of_python(method: int, level: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=level) as archive:
        archive.writestr(zipfile.ZipInfo("content", (2026, 11, 25, 20, 5, 6)), CONTENT, method, level)
    record, inner = exact(out.getvalue())
    assert (inner, record.modified) == (CONTENT, "2026-11-25 20:05:06")


@pytest.mark.oracle
@pytest.mark.parametrize("options", ["-9j", "-1jX", "-0j"])
def test_ends_of_zip64_by_info_zip(by_program: Callable[..., bytes], options: str) -> None:
    """Forced for a small file: as zip writes them for a large one."""
    record, inner = exact(by_program(options, "-fz"))
    assert inner == CONTENT
    assert record.end64 == ZipEnd64()
    assert ZipLarge(2) in record.extra


@pytest.mark.parametrize("limit", [1000, len(CONTENT) + 1])
def test_ends_of_zip64_by_python(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Python writes them from 2 GiB on, where the usual end record still has room; here, from less on."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("content"), CONTENT, zipfile.ZIP_DEFLATED)
    record, _ = exact(out.getvalue())
    assert record.end64 == (ZipEnd64(45, 45, offset_twice=True) if limit == 1000 else None)


def test_a_large_member_gets_a_far_directory() -> None:
    """Of 5 GiB that are stored: the end of the file as its structures say it."""
    size = 5 << 30
    large: list[ZipExtra] = [ZipLarge(2)]
    record = ZipRecord(0, "x", 0, "2026-11-26 08:00:00", version_needed=45, extra=large, central_extra=large,
                       end64=ZipEnd64())  # fmt: skip
    head = LocalFileHeader.SIZE + 1 + 20
    directory = CentralDirectoryHeader.SIZE + 1 + 20
    tail = zip_frame(record, size, size).tail
    assert len(tail) == directory + EndRecord64.SIZE + EndLocator64.SIZE + EndRecord.SIZE
    end64 = EndRecord64.parse(tail, directory)
    assert (end64.central_directory_offset, end64.central_directory_size) == (head + size, directory)
    assert EndLocator64.parse(tail, directory + EndRecord64.SIZE).end_record_offset == head + size + directory
    assert EndRecord.parse(tail, len(tail) - EndRecord.SIZE).central_directory_offset == 0xFFFFFFFF


@given(st.binary(max_size=3000), st.sampled_from([0, 8]), st.datetimes())
@settings(max_examples=40)
def test_any_content_and_time(held: bytes, method: int, moment: datetime.datetime) -> None:
    year = 1980 + moment.year % 128
    day = (year, moment.month, min(moment.day, 28), moment.hour, moment.minute, moment.second)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("x", day), held, method)
    assert exact(out.getvalue())[1] == held


@given(st.binary(max_size=60))
def test_extra_fields_come_back(data: bytes) -> None:
    try:
        found = parse_extra(data)
    except CorruptError:
        return
    large = sum(item.sizes for item in found if isinstance(item, ZipLarge))
    if not large:
        assert pack_extra(found) == data


def test_strange_extra_fields_are_bytes() -> None:
    fields: list[ZipExtra] = [
        ZipOwner(1000, 1000),
        ZipTimes(3, [-1, 5]),
        ZipOther(0x7875, "01"),
        ZipOther(0x5455, ""),
        ZipLarge(2),
    ]
    data = pack_extra(fields, [1 << 40, 7])
    assert parse_extra(data) == fields


SAMPLE = io.BytesIO()
with zipfile.ZipFile(SAMPLE, "w", zipfile.ZIP_DEFLATED) as _archive:
    _archive.writestr(zipfile.ZipInfo("content"), CONTENT, zipfile.ZIP_DEFLATED)
GOOD = SAMPLE.getvalue()
END = len(GOOD) - EndRecord.SIZE
CENTRAL = EndRecord.parse(GOOD, END).central_directory_offset


def patched(structure: type[Structure], at: int, **changes: int | bytes) -> bytes:
    head = structure.parse(GOOD, at)
    values = {name: getattr(head, name) for name in structure.__annotations__} | changes
    return GOOD[:at] + structure(**values).pack() + GOOD[at + structure.SIZE :]


def with_end64(**changes: int) -> bytes:
    """Return the good file with end records of zip64."""
    ends = pack_end64(ZipEnd64(), CENTRAL, END - CENTRAL)
    end64 = EndRecord64.parse(ends)
    values = {name: getattr(end64, name) for name in EndRecord64.__annotations__} | changes
    end = EndRecord.parse(GOOD, END)
    usual = {name: getattr(end, name) for name in EndRecord.__annotations__} | {"central_directory_offset": 0xFFFFFFFF}
    return GOOD[:END] + EndRecord64(**values).pack() + ends[EndRecord64.SIZE :] + EndRecord(**usual).pack()


DAMAGES: dict[str, tuple[bytes, type[RehydratorError], str]] = {
    "truncated": (GOOD[:-5], CorruptError, "end record is not there"),
    "short": (GOOD[:10], CorruptError, "cut short"),
    "comment behind": (GOOD + b"xx", CorruptError, "end record is not there"),
    "two members": (patched(EndRecord, END, entries=2, entries_on_this_disk=2), UnsupportedError, "one member"),
    "no member": (patched(EndRecord, END, entries=0, entries_on_this_disk=0), UnsupportedError, "one member"),
    "no zip64 end": (patched(EndRecord, END, central_directory_offset=0xFFFFFFFF), CorruptError, "does not end"),
    "a lost zip64 end": (with_end64()[:END] + with_end64()[END + EndRecord64.SIZE :], CorruptError, "zip64 begins"),
    "a zip64 end of two": (with_end64(entries=2), UnsupportedError, "zip64 end records of other values"),
    "a zip64 end elsewhere": (with_end64(central_directory_offset=1), CorruptError, "zip64 begins"),
    "a far directory": (patched(EndRecord, END, central_directory_offset=1 << 31), CorruptError, "does not end"),
    "no directory": (patched(CentralDirectoryHeader, CENTRAL, signature=b"PKxx"), CorruptError, "wrong magic"),
    "another name": (patched(CentralDirectoryHeader, CENTRAL, file_name_length=3), UnsupportedError, "file_name_len"),
    "another time": (patched(LocalFileHeader, 0, last_mod_file_time=9), UnsupportedError, "last_mod_file_time"),
    "an impossible day": (
        patched(LocalFileHeader, 0, last_mod_file_date=0)[:CENTRAL]
        + patched(CentralDirectoryHeader, CENTRAL, last_mod_file_date=0)[CENTRAL:],
        UnsupportedError,
        "impossible time",
    ),
    "not at the start": (
        patched(CentralDirectoryHeader, CENTRAL, relative_offset_of_local_header=4), UnsupportedError, "does not begin"
    ),
    "encrypted": (
        patched(LocalFileHeader, 0, general_purpose_bit_flag=1)[:CENTRAL]
        + patched(CentralDirectoryHeader, CENTRAL, general_purpose_bit_flag=1)[CENTRAL:],
        UnsupportedError,
        "encrypted",
    ),
    "a method": (
        patched(LocalFileHeader, 0, compression_method=12)[:CENTRAL]
        + patched(CentralDirectoryHeader, CENTRAL, compression_method=12)[CENTRAL:],
        UnsupportedError,
        "compression method",
    ),
    "a CRC": (patched(CentralDirectoryHeader, CENTRAL, crc_32=1), CorruptError, "crc_32"),
    "a bomb": (patched(CentralDirectoryHeader, CENTRAL, uncompressed_size=1000), CorruptError, "another size"),
    "a lying size": (patched(CentralDirectoryHeader, CENTRAL, uncompressed_size=1 << 31), CorruptError, "another size"),
    "long data": (patched(CentralDirectoryHeader, CENTRAL, compressed_size=1 << 30), CorruptError, "ends behind"),
    "short data": (patched(CentralDirectoryHeader, CENTRAL, compressed_size=1000), CorruptError, "ends elsewhere"),
    "an attribute of the local header": (patched(LocalFileHeader, 0, crc_32=1), UnsupportedError, "unknown deflate"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_named(case: str) -> None:
    data, kind, words = DAMAGES[case]
    with pytest.raises(kind, match=words) as caught:
        LAYER.unwrap(BytesSource(data), PATH)
    check_complete(caught.value, PATH)


def test_a_bomb_is_stopped_at_its_promised_size() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(64 * MIB))
    data = BytesSource(out.getvalue().replace((64 * MIB).to_bytes(4, "little"), (MIB).to_bytes(4, "little")))
    made: list[int] = []
    with pytest.raises(CorruptError, match="another size"):
        made.extend(map(len, member_content(data, read_member(data, PATH), PATH)))
    assert sum(made) <= MIB


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
@settings(max_examples=150)
def test_flipped_bytes(at: int, mask: int) -> None:
    """What is accepted comes back exactly, all else is refused."""
    data = bytearray(GOOD)
    data[at] ^= mask
    try:
        unwrapped = LAYER.unwrap(BytesSource(bytes(data)), PATH)
    except RehydratorError:
        return
    assert content(LAYER.wrap(BytesSource(content(unwrapped.inner)), unwrapped.record)) == bytes(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"file_size": -1}, {"file_size": 1 << 60}, {"file_size": 100}, {"file_size": 10}, {"crc32": 5},
        {"crc32": 1 << 40}, {"modified": "yesterday"}, {"modified": "1600-01-01 00:00:00"}, {"name": "x" * 70_000},
        {"name": "Œ"}, {"flags": 1 << 20}, {"version_made_by": -1}, {"deflate": "zlib-9"}, {"deflate": None},
        {"extra": [ZipLarge(5)]}, {"extra": [ZipOther(1, "zz")]}, {"extra": [ZipTimes(300, [])]},
        {"central_extra": [ZipLarge(-1)]},
        {"end64": ZipEnd64()}, {"end64": ZipEnd64(version_needed=1 << 16)},
         {"central_extra": [ZipOwner(-1, 0)]}, {"extra": [ZipTimes(1, [1 << 40])]},
    ],
    ids=str,
)  # fmt: skip
def test_forged_records(changes: dict[str, Any]) -> None:
    """Bounds are checked before bytes are made; nothing but the recorded file ends without an error."""
    record = LAYER.unwrap(BytesSource(GOOD), PATH).record
    with pytest.raises(MismatchError):
        content(LAYER.wrap(BytesSource(CONTENT), msgspec.structs.replace(record, **changes)))


def test_an_unknown_encoder_is_refused() -> None:
    record = msgspec.structs.replace(LAYER.unwrap(BytesSource(GOOD), PATH).record, deflate="magic-1")
    with pytest.raises(UnsupportedError, match="unknown deflate encoder"):
        LAYER.wrap(BytesSource(CONTENT), record)


def test_words() -> None:
    record = LAYER.unwrap(BytesSource(GOOD), PATH).record
    assert LAYER.describe(record) == "zip by zlib-6, name content, modified 1980-01-01 00:00:00"
    stored = msgspec.structs.replace(record, deflate=None)
    assert LAYER.describe(stored).startswith("zip stored, ")
