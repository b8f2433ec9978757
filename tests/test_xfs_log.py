"""The XFS log: against xfs_logprint, across mounts by the kernel, and pure round trips."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import FileSource
from rehydrator.fs.place import Kind
from rehydrator.fs.xfs.c_xfs_log import (
    BBSIZE,
    XLOG_CYCLE_DATA_SIZE,
    XLOG_FMT_LINUX_LE,
    XLOG_HEADER_MAGIC_NUM,
    XlogOpFlag,
    XlogRecHeader,
)
from rehydrator.fs.xfs.checksums import expected_record, header_blocks, reseal_record, stored_record
from rehydrator.fs.xfs.log import StaleRun, XfsLog, make_lsn, pack, parse_operations, split_lsn, stamp, unpack
from rehydrator.fs.xfs.owner import XfsFilesystem
from tests.test_xfs_image import VARIANTS, copy_of, filesystem_of, image_of, mounted, require, run

_RECORD = re.compile(
    r"cycle: (\d+)\s+version: 2\s+lsn: (\d+),(\d+)\s+tail_lsn: (\d+),(\d+)\s*\n"
    r"length of Log Record: (\d+)\s+prev offset: -?\d+\s+num ops: (\d+)"
)
_OPERATION = re.compile(r"^Oper \((\d+)\): tid: ([0-9a-f]+)\s+len: (\d+)\s+clientid: \w+\s+flags: ", re.MULTILINE)


def log_of(image: Path) -> XfsLog:
    return XfsFilesystem(FileSource(image)).reader.log


def make_log(image: Path, **values: int) -> Path:
    """Make a small image, then leave it with a log that needs recovery."""
    with image.open("wb") as file:
        file.truncate(320 << 20)
    run("mkfs.xfs", "-q", "-d", "agcount=2", image)
    with mounted(image, *(f"{name}={value}" for name, value in values.items())) as root:
        for index in range(200):
            (root / f"file-{index}").write_bytes(b"x" * index)
        run("sync")
        (root / "directory").mkdir()
        (root / "directory" / "last").symlink_to("nowhere")
        run("xfs_io", "-x", "-c", "shutdown -f", root)
    return image


@pytest.mark.oracle
@pytest.mark.parametrize("logbsize", [32768, 262144])
def test_records_and_operations_are_those_of_logprint(logbsize: int, need: Callable[..., None], tmp_path: Path) -> None:
    require(need)
    image = make_log(tmp_path / "log.img", logbsize=logbsize)
    log = log_of(image)
    assert log.needs_recovery
    assert any("needs recovery" in problem.problem for problem in log.health())
    printed = subprocess.run(["xfs_logprint", image], capture_output=True, text=True, check=False).stdout
    parts = _RECORD.split(printed)
    assert len(parts) > 8
    ours = {(record.header.h_cycle, record.block): record for record in log.records}
    for at in range(1, len(parts), 8):
        cycle, lsn_cycle, lsn_block, tail_cycle, tail_block, length, count = map(int, parts[at : at + 7])
        record = ours[lsn_cycle, lsn_block]
        assert (record.header.h_cycle, record.header.h_len, record.header.h_num_logops) == (cycle, length, count)
        assert split_lsn(record.header.h_tail_lsn) == (tail_cycle, tail_block)
        assert record.whole
        assert record.header_blocks == (8 if logbsize == 262144 and record.block else 1)  # the first is mkfs.xfs's
        theirs = [(int(tid, 16), int(size)) for _, tid, size in _OPERATION.findall(parts[at + 7])]
        operations = list(log.operations(record))
        assert len(operations) == count
        assert [(operation.tid, operation.length) for operation in operations][: len(theirs)] == theirs


@pytest.mark.parametrize("name", VARIANTS)
def test_whole_records_have_their_checksum_and_repack_exactly(name: str, need: Callable[..., None]) -> None:
    require(need)
    filesystem_of(name)
    log = log_of(image_of(name))
    assert not log.needs_recovery
    last = log.last
    assert last is not None
    (unmount,) = log.operations(last)
    assert unmount.flags & XlogOpFlag.UNMOUNT_TRANS
    checked = 0
    for record in log.records:
        headers, payload = log.headers(record), log.payload(record)
        if record.whole and stored_record(headers):
            assert stored_record(headers) == expected_record(headers, payload)
            assert pack(headers, unpack(headers, payload)) == (headers, payload)
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("options", ["rw", "ro"])
def test_a_mount_stamps_what_stamp_regenerates(options: str, need: Callable[..., None], tmp_path: Path) -> None:
    """Mounted twice, also read-only: the log differs by a run of stamped headers that a single tuple tells."""
    require(need)
    image = copy_of("coreos", tmp_path / "copy.img")
    point = tmp_path / "mnt"
    point.mkdir()
    device = run("losetup", "--show", "-f", image).strip()  # mount's own loop would be read-only for "ro"
    try:
        for _ in range(2):
            run("mount", "-t", "xfs", "-o", f"{options},nouuid", device, point)
            run("umount", point)
    finally:
        run("losetup", "-d", device)
    log = log_of(image)
    assert log.runs
    run_ = max(log.runs, key=lambda run_: run_.count)
    assert run_.count > 4000
    data = FileSource(image).read(log.extent.offset + run_.start * BBSIZE, run_.count * BBSIZE)
    assert stamp(run_, log.uuid) == data
    (place,) = XfsFilesystem(FileSource(image)).places([Extent(log.extent.offset + run_.start * BBSIZE, BBSIZE)])
    assert (place.kind, place.name) == (Kind.LOG_STALE, "stamped empty log header")
    before = {record.block for record in log_of(image_of("coreos")).records}
    assert any(record.block not in before for record in log.records)


def test_payload_fields_name_transaction_ids_and_inode_times(need: Callable[..., None]) -> None:
    require(need)
    filesystem = filesystem_of("coreos")
    log = filesystem.reader.log
    record = max((record for record in log.records if record.whole), key=lambda record: record.header.h_lsn)
    base = log.extent.offset + record.block * BBSIZE
    header, payload = filesystem.places([Extent(base, 2 * BBSIZE)])
    assert (header.kind, payload.kind) == (Kind.LOG_HEADER, Kind.LOG_PAYLOAD)
    assert "h_cycle_data[0]" in {span.name for span in header.fields}
    names = {
        span.name.partition(" ")[2]
        for place in filesystem.places([log.extent])
        if place.kind is Kind.LOG_PAYLOAD
        for span in place.fields
    }
    assert any(re.fullmatch(r"inode \d+\.di_atime", name) for name in names)
    assert any(re.fullmatch(r"SB buffer at sector 0\+\d+\.sb_\w+", name) for name in names)


def _headers(length: int, size: int) -> bytes:
    header = XlogRecHeader(
        h_magicno=XLOG_HEADER_MAGIC_NUM,
        h_cycle=7,
        h_version=2,
        h_len=length,
        h_lsn=make_lsn(7, 100),
        h_tail_lsn=make_lsn(7, 90),
        h_crc=bytes(4),
        h_prev_block=98,
        h_num_logops=1,
        h_cycle_data=bytes(4 * XLOG_CYCLE_DATA_SIZE),
        h_fmt=XLOG_FMT_LINUX_LE,
        h_fs_uuid=bytes(16),
        h_size=size,
        h_pad0=0,
    )
    return header.pack().ljust(header_blocks(header) * BBSIZE, b"\0")


@given(
    words=st.binary(min_size=16, max_size=64),
    blocks=st.integers(1, 512),
    wrap=st.one_of(st.none(), st.integers(0, 512)),
)
def test_pack_and_unpack_are_inverse(words: bytes, blocks: int, wrap: int | None) -> None:
    payload = (words * (blocks * BBSIZE // len(words) + 1))[: blocks * BBSIZE]
    headers = _headers(len(payload), 32768 if blocks <= 64 else 262144)
    on_disk_headers, on_disk = pack(headers, payload, wrap)
    assert unpack(on_disk_headers, on_disk) == payload
    assert stored_record(on_disk_headers) == expected_record(on_disk_headers, on_disk)
    assert reseal_record(on_disk_headers, on_disk) == on_disk_headers
    assert on_disk[:4] == (7 + (wrap == 0)).to_bytes(4, "big")


@given(start=st.integers(0, 1 << 20), count=st.integers(1, 50), cycle=st.integers(0, 1000))
def test_stamped_headers_parse(start: int, count: int, cycle: int) -> None:
    data = stamp(StaleRun(start, count, cycle, cycle + 1, 5), b"u" * 16)
    for index in range(count):
        header = XlogRecHeader.parse(data, index * BBSIZE)
        assert split_lsn(header.h_lsn) == (cycle, start + index)
        assert header.h_len == 0


@given(st.binary(max_size=300), st.integers(0, 1 << 32))
def test_parse_operations_accepts_anything(data: bytes, count: int) -> None:
    end = 0
    for operation in parse_operations(data, count):
        assert operation.offset == end
        end = operation.data_offset + operation.length
        assert end <= len(data)
