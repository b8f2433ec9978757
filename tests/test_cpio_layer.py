"""The cpio layer on archives that the real cpio wrote: exact both ways, or refused by name."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import CorruptError, MismatchError, RehydratorError, UnsupportedError
from rehydrator.fs.cpio.c_cpio import TRAILER
from rehydrator.layers.cpio import CpioLayer
from rehydrator.layers.cpio_record import CpioMember, CpioRecord
from rehydrator.layers.table import format_of
from tests.support.containers import PATH, check_complete

LAYER = CpioLayer()
FILES = {"big": random.Random(1).randbytes(100_001), "etc/name": b"44\n", "etc/empty": b"", "small": b"x" * 4097}


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def exact(data: bytes) -> tuple[CpioRecord, bytes]:
    """Unwrap and wrap through the record's JSON; compare; return record and disk."""
    found = format_of(BytesSource(data))
    assert found is not None
    assert found.name == "cpio"
    unwrapped = LAYER.unwrap(BytesSource(data), PATH)
    record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=CpioRecord)
    disk = content(unwrapped.inner)
    assert content(LAYER.wrap(BytesSource(disk), record)) == data
    return record, disk


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("cpio")
    for name, data in FILES.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(data)
    os.link(top / "small", top / "linked")
    (top / "etc/link").symlink_to("name")
    os.mkfifo(top / "pipe")
    return top


def by_program(tree: Path, *options: str) -> bytes:
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*"))
    command = ["cpio", "-o", "--quiet", "-D", str(tree), *options]
    return subprocess.run(command, input="\n".join(names).encode(), check=True, capture_output=True).stdout


@pytest.mark.oracle
@pytest.mark.parametrize("options", [["-H", "newc"], ["-H", "newc", "--reproducible"], ["-H", "crc"]], ids=" ".join)
def test_archives(tree: Path, options: list[str]) -> None:
    data = by_program(tree, *options)
    record, disk = exact(data)
    assert FILES["big"] in disk
    assert record.magic == ("070702" if options == ["-H", "crc"] else "070701")
    told = subprocess.run(["cpio", "-itvn", "--quiet"], input=data, check=True, capture_output=True).stdout.decode()
    columns = [line.split() for line in told.splitlines()]
    ours = [[str(item.nlink), str(item.uid), str(item.gid), str(item.size), item.name] for item in record.members[:-1]]
    assert ours == [[*row[1:5], row[8]] for row in columns]
    assert record.members[-1].name == TRAILER
    assert len(LAYER.describe(record)) < 40


@pytest.mark.oracle
def test_concatenated_archives_and_compressed_parts(tree: Path) -> None:
    """As the kernel takes an initramfs: archives, zeros, and what is compressed."""
    archive = by_program(tree, "-H", "newc")
    packed = gzip.compress(archive * 2, mtime=0)
    for data, archives, rest in (
        (archive + archive, 2, b""),
        (archive + bytes(512) + archive + bytes(3), 2, b""),
        (archive + bytes(4) + archive + packed, 2, packed),
        (archive + packed + bytes(2), 1, packed + bytes(2)),
        (archive + bytes(1) + archive, 1, archive),  # this is not where an archive may begin
    ):
        record, disk = exact(data)
        assert sum(item.name == TRAILER for item in record.members) == archives
        assert record.rest == len(rest)
        assert disk.endswith(rest)
        assert ("other bytes" in LAYER.describe(record)) == bool(rest)


@pytest.mark.oracle
def test_files_of_an_archive(tree: Path) -> None:
    archive = by_program(tree, "-H", "newc")
    unwrapped = LAYER.unwrap(BytesSource(archive + b"\1\2\3"), PATH)
    names = [*(item.name for item in unwrapped.record.members), "rest"]
    at = 0
    for name, size in zip(names, unwrapped.cuts, strict=True):
        expected = FILES | {"rest": b"\1\2\3", "linked": FILES["small"], "small": b"", "etc/link": b"name"}
        if size:
            assert bytes(unwrapped.inner.read(at, size)) in (expected.get(name), FILES.get(name))
        at += size
    assert at == unwrapped.inner.size


@pytest.mark.oracle
def test_damaged_archives(tree: Path) -> None:
    good = by_program(tree, "-H", "newc")
    cases: list[tuple[bytes, type[RehydratorError], str]] = [
        (good[:100], CorruptError, "without its trailer"),
        (good[: good.index(TRAILER.encode()) - 200], CorruptError, "without its trailer|impossible sizes"),
        (good.replace(b"070701", b"070707", 1), UnsupportedError, "another format"),
        (good[:20] + b"nonsense" + good[28:], CorruptError, "no number"),
        (good[:94] + b"FFFFFFFF" + good[102:], CorruptError, "impossible sizes"),
        (good[:54] + b"7FFFFFFF" + good[62:], CorruptError, "impossible sizes"),
        (good.replace(b"big\0", b"b\xffg\0"), UnsupportedError, "no text"),
    ]
    for data, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            LAYER.unwrap(BytesSource(data), PATH)
        check_complete(caught.value)
    padding = bytearray(good)
    padding[good.index(b"big\0") + 4 + len(FILES["big"]) + 2] ^= 1  # of big's content, up to four bytes
    with pytest.raises(UnsupportedError, match="not be written back exactly"):
        LAYER.unwrap(BytesSource(bytes(padding)), PATH)


members = st.builds(
    CpioMember,
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9).filter(
        lambda name: name != TRAILER
    ),
    mode=st.integers(0, 0o177777).map(lambda mode: f"{mode:o}"),
    size=st.integers(0, 9000),
    **{name: st.integers(0, 0xFFFFFFFF) for name in ("ino", "nlink", "uid", "gid", "mtime", "check", "rmajor")},
)


@settings(max_examples=40, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.lists(members, max_size=5), st.booleans(), st.integers(0, 99), st.integers(0, 2**32))
def test_any_record_comes_back(found: list[CpioMember], lower: bool, zeros: int, seed: int) -> None:
    found = [*found, CpioMember(TRAILER)]
    record = CpioRecord(1 << 17, found, lower=lower)
    disk = random.Random(seed).randbytes(sum(item.size for item in found))
    wrapped = LAYER.wrap(BytesSource(disk), record)
    end = content(wrapped).rindex(TRAILER.encode()) + len(TRAILER) + 1
    data = bytes(wrapped.read(0, -(-end // 4) * 4 + zeros))
    again, content_again = exact(data)
    assert content_again == disk
    assert again.members == found
    assert not again.rest
    assert again.lower in (lower, False)  # there may be no letter among the digits


def test_forged_records() -> None:
    good = CpioRecord(512, [CpioMember("a", size=5), CpioMember(TRAILER)])
    assert content(LAYER.wrap(BytesSource(b"abcde"), good))[112 + 0 : 117] == b"abcde"
    changes: list[dict[str, object]] = [
        {"file_size": 100},
        {"file_size": -1},
        {"rest": -1},
        {"rest": 9},
        {"rest": 1 << 61},
        {"magic": "070707"},
        {"members": [CpioMember("a", size=1 << 63), CpioMember(TRAILER)]},
        {"members": [CpioMember("a", size=-5), CpioMember(TRAILER)]},
        {"members": [CpioMember("a", size=5, gap=-4), CpioMember(TRAILER)]},
        {"members": [CpioMember("a", size=5, mode="9")]},
        {"members": [CpioMember("a", size=5, ino=-1)]},
        {"members": [CpioMember("a", size=5, ino=1 << 32)]},
    ]
    for change in changes:
        with pytest.raises(MismatchError):
            content(LAYER.wrap(BytesSource(b"abcde"), msgspec.structs.replace(good, **change)))
    with pytest.raises(MismatchError, match="another size"):
        LAYER.wrap(BytesSource(b"abc"), good)
