"""Two wrappings of one disk: the report names what differs, by the fields of the format, in all its forms."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rehydrator.disk.source import BytesSource
from rehydrator.explain.container import container_changes
from rehydrator.explain.peel import Container, Opened
from rehydrator.explain.tree import Report
from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.qcow2_record import QEMU_FEATURE_NAMES, Qcow2Record
from rehydrator.layers.table import LayerRecord
from rehydrator.layers.tar_record import TarMember, TarRecord
from rehydrator.layers.vhd_record import VhdRecord
from rehydrator.layers.vhdx_record import VhdxHeader, VhdxRecord
from rehydrator.layers.vmdk_record import VmdkRecord
from rehydrator.layers.zip_record import ZipEnd64, ZipLarge, ZipOther, ZipOwner, ZipRecord, ZipTimes
from tests.support.cli import run
from tests.support.disks import metal_disk
from tests.support.explaining import check_account, compare_files


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wrapped") / "disk.raw"
    path.write_bytes(metal_disk())
    return path


def twice(disk: Path, directory: Path, suffix: str, *options: str) -> tuple[Path, Path]:
    made = [directory / f"{name}.{suffix}" for name in ("one", "two")]
    for image in made:
        subprocess.run(["qemu-img", "convert", "-f", "raw", *options, disk, image], check=True, capture_output=True)
    return made[0], made[1]


# options of qemu-img, the fields that differ between two runs (time may or may not)
CONVERSIONS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "vhd": (("-O", "vpc", "-o", "subformat=fixed,force_size"), {"unique_id"}),
    "vmdk": (("-O", "vmdk", "-o", "subformat=streamOptimized"), {"descriptor CID", "descriptor extent"}),
    "vhdx": (
        ("-O", "vhdx", "-o", "block_size=1M"),
        {
            "header 1 sequence_number", "header 1 file_write_guid", "header 1 data_write_guid",
            "header 2 sequence_number", "header 2 file_write_guid", "header 2 data_write_guid",
            "virtual_disk_id", "log (4 of 4)",
        },
    ),
}  # fmt: skip


def check_same_disk(report: Report, fields: set[str]) -> None:
    assert {item.field for item in report.container} == fields
    assert report.verdict.startswith("one and two hold the same disk; only the container differs: ")
    assert not report.identical
    assert report.total.differing == 0
    assert all(item.a != item.b for item in report.container)
    check_account(report, 0)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", CONVERSIONS)
def test_two_conversions(need: Callable[..., None], disk: Path, tmp_path: Path, kind: str) -> None:
    need("qemu-img")
    options, fields = CONVERSIONS[kind]
    one, two = twice(disk, tmp_path, kind, *options)
    report = compare_files(one, two)
    report = msgspec.structs.replace(
        report, container=[item for item in report.container if item.field != "time_stamp"]
    )
    check_same_disk(report, fields)


@pytest.mark.oracle
def test_two_conversions_to_qcow2_are_one(need: Callable[..., None], disk: Path, tmp_path: Path) -> None:
    need("qemu-img")
    one, two = twice(disk, tmp_path, "qcow2", "-O", "qcow2")
    assert compare_files(one, two).identical


@pytest.mark.oracle
def test_qcow2_versions(need: Callable[..., None], disk: Path, tmp_path: Path) -> None:
    need("qemu-img")
    one, _ = twice(disk, tmp_path, "old.qcow2", "-O", "qcow2", "-o", "compat=0.10")
    _, two = twice(disk, tmp_path, "qcow2", "-O", "qcow2")
    found = {item.field: (item.a, item.b) for item in compare_files(one, two).container}
    assert found["version"] == ("2", "3")
    assert found["feature_names incompatible bit 4"] == ("(none)", "extended L2 entries")


@pytest.mark.oracle
def test_gcp_archives(need: Callable[..., None], disk: Path, tmp_path: Path) -> None:
    need("tar", "gzip")
    for name, mtime in (("one", 1_700_000_001), ("two", 1_700_000_002)):
        archive = tmp_path / f"{name}.tar"
        options = ["--format=oldgnu", "--sparse", f"--mtime=@{mtime}", f"--mode={'u=rw' if mtime % 2 else 'a=rw'}"]
        subprocess.run(["tar", *options, "-cf", archive, "-C", disk.parent, disk.name], check=True)
        os.utime(archive, (mtime, mtime))
        subprocess.run(["gzip", "-9", archive], check=True)
    report = compare_files(tmp_path / "one.tar.gz", tmp_path / "two.tar.gz")
    check_same_disk(report, {"FNAME", "MTIME", "disk.raw mtime", "disk.raw mode"})
    times = {item.field: item.a for item in report.container}
    assert times["MTIME"] == times["disk.raw mtime"] == "2023-11-14 22:13:21 UTC"


@pytest.mark.oracle
def test_zip_times(need: Callable[..., None], disk: Path, tmp_path: Path) -> None:
    need("zip")
    copy = tmp_path / "disk.raw"
    copy.write_bytes(disk.read_bytes())
    for name, mtime in (("one", 1_700_000_000), ("two", 1_700_000_010)):
        os.utime(copy, (mtime, mtime))
        subprocess.run(["zip", "-9jq", tmp_path / f"{name}.zip", copy], check=True)
    report = compare_files(tmp_path / "one.zip", tmp_path / "two.zip")
    check_same_disk(
        report,
        {
            "disk.raw last mod file time",
            "disk.raw extra field UT modified",
            "disk.raw extra field UT accessed",
            "disk.raw extra field of the directory UT modified",
        },
    )
    told = {item.field: (item.a, item.b) for item in report.container}
    times = ("2023-11-14 22:13:20 UTC", "2023-11-14 22:13:30 UTC")
    assert told["disk.raw extra field UT modified"] == times


@pytest.mark.oracle
def test_all_forms_tell_the_fields(need: Callable[..., None], disk: Path, tmp_path: Path) -> None:
    need("qemu-img")
    one, two = twice(disk, tmp_path, "vhd", *CONVERSIONS["vhd"][0])
    text = run("explain", one, two)
    assert text.code == 1
    assert "container vhd unique_id: " in text.text
    changes = json.loads(run("explain", one, two, "--output", "json").text)["container"]
    ids = next(item for item in changes if item["field"] == "unique_id")
    page = run("explain", one, two, "--output", "html").text
    assert f"<td>vhd</td><td>unique_id</td><td>{ids['a']}</td><td>{ids['b']}</td>" in page


# -- records that no tool has to write


def wrapped(kind: str, record: LayerRecord) -> Opened:
    return Opened("x", BytesSource(b""), containers=(Container(kind, record, ""),))


def changes_of(kind: str, a: LayerRecord, b: LayerRecord) -> list[tuple[str, str, str]]:
    return [(item.field, item.a, item.b) for item in container_changes(wrapped(kind, a), wrapped(kind, b))]


def oci(created: str, digest: str) -> TarRecord:
    config = json.dumps({"created": created, "rootfs": {"type": "layers"}, "history": [{"created": created}]})
    manifest = json.dumps({"schemaVersion": 2, "layers": [{"digest": f"sha256:{digest}"}]})
    return TarRecord(
        [
            TarMember(f"blobs/sha256/{digest}", 1),
            TarMember(f"blobs/sha256/c{digest}", 1, text=[config]),
            TarMember(f"blobs/sha256/m{digest}", 1, text=[manifest]),
            TarMember("oci-layout", 1, text=['{"imageLayoutVersion": "1.0.0"}']),
        ]
    )


def test_oci_documents_are_told_by_key() -> None:
    assert changes_of("tar", oci("2026", "aa"), oci("2027", "bb")) == [
        ("layer blob name", "blobs/sha256/aa", "blobs/sha256/bb"),
        ("config blob name", "blobs/sha256/caa", "blobs/sha256/cbb"),
        ("config blob content created", "2026", "2027"),
        ("config blob content history 0 created", "2026", "2027"),
        ("manifest blob name", "blobs/sha256/maa", "blobs/sha256/mbb"),
        ("manifest blob content layers 0 digest", "sha256:aa", "sha256:bb"),
    ]


def test_members_that_only_one_side_has() -> None:
    one = TarRecord([TarMember("disk.raw", 0)])
    two = TarRecord([TarMember("disk.raw", 0), TarMember("disk.raw", 5, text=["{"])])
    ((field, a, b),) = changes_of("tar", one, two)
    assert (field, a) == ("disk.raw (1)", "(none)")
    assert b.startswith('{"name":"disk.raw"')


def test_descriptor_lines() -> None:
    lines = ["# Disk DescriptorFile", "CID=0000", "", 'RW 8 SPARSE "x"']
    one = VmdkRecord(lines, "zlib-6")
    two = VmdkRecord([lines[0], "CID=1111", "# new", 'RW 9 SPARSE "x"'], "zlib-5")
    assert changes_of("vmdk", one, two) == [
        ("descriptor CID", "0000", "1111"),
        ("descriptor line 3", "", "# new"),
        ("descriptor extent", 'RW 8 SPARSE "x"', 'RW 9 SPARSE "x"'),
        ("deflate", "zlib-6", "zlib-5"),
    ]


GUIDS = [str(uuid.UUID(int=number)) for number in range(8)]
VHD = VhdRecord(800_000_000, GUIDS[0])
HEADERS = (VhdxHeader(6, GUIDS[0], GUIDS[1]), VhdxHeader(7, GUIDS[0], GUIDS[1]))
VHDX = VhdxRecord("QEMU v7", HEADERS, GUIDS[2], GUIDS[3:])
ZIP = ZipRecord(900, "disk.raw", 1, "2026-11-26 09:00:00", extra=[ZipTimes(3, [1_700_000_000, 5]), ZipOwner(0, 0)])
QCOW2 = Qcow2Record(file_size=1 << 20, l1_size=1)
GZIP = GzipRecord(900, "gzip-9", name="disk.tar", mtime=1_700_000_000)

# what differs in a record; the fields that explain tells, with both values
GOLDEN: dict[str, tuple[LayerRecord, dict[str, object], list[tuple[str, str, str]]]] = {
    "qcow2 features": (
        QCOW2,
        {"compatible_features": 1, "feature_names": QEMU_FEATURE_NAMES[:-1], "cluster_bits": 17},
        [
            ("cluster_bits", "16", "17"),
            ("compatible_features", "0x0", "0x1"),
            ("feature_names autoclear bit 1", "raw external data", "(none)"),
        ],
    ),
    "qcow2 layout": (
        QCOW2,
        {"version": 2, "header_length": 72, "allocation": [BlockRun(7, 1), BlockRun(0, 2)]},
        [
            ("version", "3", "2"),
            ("header_length", "112", "72"),
            ("allocation", "nonzero", "[[7,1],[0,2]]"),
        ],
    ),
    "vhd": (
        VHD,
        {"time_stamp": 800_000_060, "unique_id": GUIDS[7], "creator_application": "vbox"},
        [
            ("time_stamp", "2025-05-08 06:13:20 UTC", "2025-05-08 06:14:20 UTC"),
            ("unique_id", GUIDS[0], GUIDS[7]),
            ("creator_application", "qem2", "vbox"),
        ],
    ),
    "vhdx": (
        VHDX,
        {"virtual_disk_id": GUIDS[0], "log": [*GUIDS[3:7], GUIDS[0]], "headers": (HEADERS[1], HEADERS[1])},
        [
            ("header 1 sequence_number", "6", "7"),
            ("virtual_disk_id", GUIDS[2], GUIDS[0]),
            ("log (1 of 5)", f"5 entries, number 4 is {GUIDS[7]}", f"5 entries, number 4 is {GUIDS[0]}"),
        ],
    ),
    "gzip": (
        GZIP,
        {"name": None, "mtime": 0, "deflate": "gzip-6"},
        [
            ("deflate", "gzip-9", "gzip-6"),
            ("name", "disk.tar", "(none)"),
            ("mtime", "2023-11-14 22:13:20 UTC", "1970-01-01 00:00:00 UTC"),
        ],
    ),
    "zip times": (
        ZIP,
        {"modified": "2026-11-26 09:00:02", "extra": [ZipTimes(3, [1_700_000_002, 6]), ZipOwner(0, 0)]},
        [
            ("disk.raw last mod file time", "2026-11-26 09:00:00", "2026-11-26 09:00:02"),
            ("disk.raw extra field UT modified", "2023-11-14 22:13:20 UTC", "2023-11-14 22:13:22 UTC"),
            ("disk.raw extra field UT accessed", "1970-01-01 00:00:05 UTC", "1970-01-01 00:00:06 UTC"),
        ],
    ),
    "zip owner, sizes and others": (
        ZIP,
        {"extra": [ZipOwner(1000, 100), ZipLarge(2), ZipOther(0xCAFE, "ff")], "end64": ZipEnd64(), "flags": 8},
        [
            ("disk.raw general purpose bit flag", "0x0000", "0x0008"),
            ("disk.raw extra field UT flags", "3", "(none)"),
            ("disk.raw extra field UT modified", "2023-11-14 22:13:20 UTC", "(none)"),
            ("disk.raw extra field UT accessed", "1970-01-01 00:00:05 UTC", "(none)"),
            ("disk.raw extra field ux uid", "0", "1000"),
            ("disk.raw extra field ux gid", "0", "100"),
            ("disk.raw extra field zip64 sizes", "(none)", "2"),
            ("disk.raw extra field 0xcafe", "(none)", "ff"),
            ("zip64 end", "(none)", "{}"),
        ],
    ),
    "tar": (
        TarRecord([TarMember("disk.raw", 1_700_000_000)]),
        {"members": [TarMember("disk.raw", 1_700_000_001, mode="0600", uname="core")], "style": "ustar"},
        [
            ("style", "gnu", "ustar"),
            ("disk.raw mtime", "2023-11-14 22:13:20 UTC", "2023-11-14 22:13:21 UTC"),
            ("disk.raw mode", "0644", "0600"),
            ("disk.raw uname", "root", "core"),
        ],
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_fields_by_name(case: str) -> None:
    record, changes, told = GOLDEN[case]
    kind = str(record.__struct_config__.tag)
    assert changes_of(kind, record, msgspec.structs.replace(record, **changes)) == told


def test_times_without_a_calendar() -> None:
    one, two = (TarRecord([TarMember("x", mtime)]) for mtime in (1 << 80, (1 << 80) + 1))
    assert changes_of("tar", one, two) == [("x mtime", str(1 << 80), str((1 << 80) + 1))]
