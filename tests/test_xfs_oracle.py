"""The XFS reader against xfs_db, xfs_repair and the kernel."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.disk.extents import Extent
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, FileSource, Padded, Window
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.fs.place import Kind
from rehydrator.fs.xfs.c_xfs import XfsAgf, XfsDinode, XfsDsb
from rehydrator.fs.xfs.checksums import Seal, reseal
from rehydrator.fs.xfs.owner import XfsFilesystem
from rehydrator.fs.xfs.segments import Role
from tests.test_xfs_image import VARIANTS, copy_of, db, filesystem_of, image_of, mounted, require, run

pytestmark = pytest.mark.oracle
_VALUE = re.compile(r"^(\w+) = (\S+)", re.MULTILINE)
_BMAP = re.compile(r"data offset (\d+) startblock (\d+) \(\d+/\d+\) count (\d+) flag (\d)")
_FSMAP = re.compile(r"^\s*\d+: (\d+)/(\d+) len (\d+) owner (-?\d+) offset (\d+) bmbt (\d) attrfork (\d)", re.MULTILINE)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, need: Callable[..., None]) -> str:
    require(need)
    return str(request.param)


def _number(text: str) -> int | None:
    return int(text, 0) if re.fullmatch(r"-?(0x)?[0-9a-fA-F]+", text) else None


def test_superblock_and_agf_are_as_xfs_db_prints_them(variant: str) -> None:
    filesystem = filesystem_of(variant)
    superblock = filesystem.reader.superblock
    printed = dict(_VALUE.findall(db(image_of(variant), "sb 0", "p")))
    for name in ("blocksize", "dblocks", "agblocks", "rootino", "icount", "ifree", "fdblocks", "lsn", "logblocks"):
        assert getattr(superblock, f"sb_{name}") == _number(printed[name]), name
    agf = XfsAgf.parse(filesystem.reader.reader.read(filesystem.reader.geometry.sector_size, XfsAgf.SIZE))
    printed = dict(_VALUE.findall(db(image_of(variant), "agf 0", "p")))
    for name in ("length", "flfirst", "flcount", "freeblks", "longest", "btreeblks"):
        assert getattr(agf, f"agf_{name}") == _number(printed[name].rstrip(",")), name


def test_every_path_is_one_that_ncheck_knows(variant: str) -> None:
    known: dict[int, set[str]] = {}
    for line in db(image_of(variant), "blockget -n", "ncheck").splitlines():
        number, _, path = line.strip().partition(" ")
        if number.isdigit():
            known.setdefault(int(number), set()).add("/" + path.strip().removesuffix("/."))
    filesystem = filesystem_of(variant)
    names = filesystem.reader.mapper.names
    ours = {inode: names.path(inode) for inode, _, _ in names.linked()}
    assert ours.keys() == known.keys() - {filesystem.reader.geometry.root_inode}
    wrong = {path: known[inode] for inode, path in ours.items() if path not in known[inode]}
    assert wrong == {"/usr/program": {"/ostree/repo/aa.file"}}, "ncheck knows one of several links only"


@pytest.mark.parametrize("path", ["/many-extents", "/some-extents", "/preallocated", "/file-001", "/directory-node"])
def test_extents_are_those_of_bmap(variant: str, path: str) -> None:
    reader = filesystem_of(variant).reader
    inode = reader.lookup(path)
    assert inode is not None
    printed = _BMAP.findall(db(image_of(variant), f"inode {inode.number}", "bmap -d"))
    ours = [(m.start_offset, m.start_block, m.blocks, int(m.unwritten)) for m in reader.mappings(inode)]
    merged: list[tuple[int, int, int, int]] = []
    for start, block, count, flag in ours:
        last = merged[-1] if merged else None
        if last and last[0] + last[2] == start and last[1] + last[2] == block and last[3] == flag:
            merged[-1] = (last[0], last[1], last[2] + count, flag)
        else:
            merged.append((start, block, count, flag))
    assert merged == [tuple(map(int, row)) for row in printed]


@pytest.mark.parametrize("name", ["large", "blocks"])
def test_owners_are_those_of_the_reverse_mapping_btree(name: str, need: Callable[..., None]) -> None:
    """The kernel's own owner map; special owners are negative (XFS_RMAP_OWN_*)."""
    require(need)
    filesystem = filesystem_of(name)
    geometry, table = filesystem.reader.geometry, filesystem.reader.mapper.table
    special = {
        -3: {Role.SUPERBLOCK, Role.AGF, Role.AGI, Role.AGFL, Role.HEADER_SLACK},
        -4: {Role.LOG},
        -5: {Role.BNOBT, Role.CNTBT, Role.RMAPBT, Role.FREE_LIST},
        -6: {Role.INOBT, Role.FINOBT},
        -7: {Role.INODES},
        -8: {Role.REFCOUNTBT},
        -9: {Role.COW},
    }
    rows = _FSMAP.findall(db(image_of(name), "fsmap"))
    assert len(rows) > 500
    shared: dict[tuple[int, int], set[int]] = {}
    for ag, block, _, owner, *_ in rows:
        shared.setdefault((int(ag), int(block)), set()).add(int(owner))
    for ag, block, count, owner, offset, bmbt, attribute in (map(int, row) for row in rows):
        start = geometry.ag_byte(ag, block)
        for segment in table.within(start, start + count * geometry.block_size):
            if owner < 0:
                assert segment.role in special[owner], (ag, block, owner, segment)
                continue
            if bmbt:
                assert segment.role is Role.BMBT
            elif attribute:
                assert segment.role is Role.ATTRIBUTES
            assert segment.number == owner or segment.shared, (ag, block, owner, segment)
            if segment.number == owner and not bmbt and segment.start == start:
                assert segment.offset == offset * geometry.block_size


def test_content_is_what_the_kernel_reads(variant: str) -> None:
    reader = filesystem_of(variant).reader
    with mounted(image_of(variant), "ro", "norecovery") as root:
        seen = 0
        for directory, _, names in os.walk(root):
            for name in names:
                path = Path(directory) / name
                inner = "/" + str(path.relative_to(root))
                if inner in {"/filler", "/rest", "/reserve"}:
                    continue
                inode = reader.lookup(inner, follow=False)
                assert inode is not None, inner
                assert inode.number == path.lstat().st_ino
                if path.is_symlink():
                    assert reader.read_file(inode).decode() == str(path.readlink()) or path.name == "remote-link"
                elif path.is_file() and not name.startswith("sparse-"):
                    ours = hashlib.sha256(reader.read_file(inode)).digest()
                    assert ours == hashlib.sha256(path.read_bytes()).digest(), inner
                seen += 1
                if seen > 1500:
                    return


def test_file_data_has_its_path_and_offset(need: Callable[..., None]) -> None:
    require(need)
    filesystem = filesystem_of("coreos")
    inode = filesystem.reader.lookup("/some-extents")
    assert inode is not None
    content = filesystem.reader.read_file(inode)
    for mapping in filesystem.reader.mappings(inode):
        at = filesystem.reader.geometry.fsblock_byte(mapping.start_block) + 100
        (place,) = filesystem.places([Extent(at, 20)])
        assert (place.kind, place.path) == (Kind.FILE_DATA, "/some-extents")
        held = filesystem.reader.reader.read(at, 20)
        assert held == content[place.file_offset : place.file_offset + 20]


def test_hard_links_shared_data_and_every_form_are_named(need: Callable[..., None]) -> None:
    require(need)
    filesystem = filesystem_of("coreos")
    places = list(filesystem.places([Extent(0, filesystem.size)]))
    names = {re.sub(r"\d+", "N", place.name) for place in places}
    assert {"data of inode N, shared", "bmbt of inode N", "free inode N", "remote attribute value of inode N",
            "attribute leaf of inode N", "attribute node of inode N", "directory leaf of inode N",
            "directory node of inode N", "directory free index of inode N", "stamped empty log header",
            "preallocated, unwritten space of inode N", "refcountbt of AG N", "finobt of AG N"} <= names  # fmt: skip
    paths = {place.path for place in places}
    assert "/usr/program" in paths
    assert "/ostree/repo/aa.file" not in paths
    assert "/sub/ütf/deep" in paths
    assert any(holes for _, holes, _ in filesystem.reader.mapper.chunks), "no sparse inode chunk was made"
    inode = filesystem.reader.lookup("/directory-short")
    assert inode is not None
    (place,) = filesystem.places([Extent(filesystem.reader.geometry.inode_byte(inode.number), 1)])
    assert place.path == "/directory-short"
    assert "entry entry-00001-xxxxxxxxxxxxxxxxxxxx" in {span.name for span in place.fields}


@pytest.mark.parametrize("name", ["coreos", "large"])
def test_resealed_structures_satisfy_xfs_repair(name: str, need: Callable[..., None], tmp_path: Path) -> None:
    """Change an inode's time and the label, seal both again: xfs_repair finds nothing, and neither do we."""
    require(need)
    image = copy_of(name, tmp_path / "copy.img")
    filesystem = XfsFilesystem(FileSource(image))
    inode = filesystem.reader.lookup("/sub/ütf/deep/file")
    assert inode is not None
    at = filesystem.reader.geometry.inode_byte(inode.number)
    changes = ((at + XfsDinode.offset_of("di_atime"), struct.pack(">Q", 123 << 32)),
               (XfsDsb.offset_of("sb_fname"), b"newname\0"))  # fmt: skip
    with image.open("r+b") as file:
        for offset, value in changes:
            sealed = filesystem.sealed_at(offset)
            assert sealed is not None
            file.seek(sealed.offset)
            data = bytearray(file.read(sealed.length))
            data[offset - sealed.offset : offset - sealed.offset + len(value)] = value
            file.seek(sealed.offset)
            file.write(reseal(sealed.seal, data))
    run("xfs_repair", "-n", image)
    assert list(XfsFilesystem(FileSource(image)).health()) == []


def test_a_truncated_image_is_reported(need: Callable[..., None]) -> None:
    require(need)
    source = FileSource(image_of("coreos"))
    for size in (source.size - 4096, source.size // 2 + 100, 5 << 20, 70000, 1000):
        filesystem = XfsFilesystem(Window(source, 0, size))
        assert "truncated" in next(iter(filesystem.health())).problem
        assert sum(place.extent.length for place in filesystem.places([Extent(0, size)])) == size


def test_bytes_behind_the_file_system_are_named(need: Callable[..., None]) -> None:
    require(need)
    source = FileSource(image_of("coreos"))
    filesystem = XfsFilesystem(Padded(source, source.size + 1000))
    (place,) = filesystem.places([Extent(source.size, 1000)])
    assert place.kind is Kind.SLACK


def _superblock_with(**values: int) -> bytes:
    data = bytearray(FileSource(image_of("coreos")).read(0, 512))
    for name, value in values.items():
        span = next(span for span in XfsDsb.FIELDS if span.name == name)
        data[span.offset : span.offset + span.size] = value.to_bytes(span.size, "big")
    return reseal(Seal.SUPERBLOCK, data)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"sb_versionnum": 0xB4A4}, "version 4"),
        ({"sb_rblocks": 1000}, "realtime"),
        ({"sb_logstart": 0}, "external log"),
        ({"sb_features_incompat": 1 << 8}, "METADIR"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(values: dict[str, int], word: str, need: Callable[..., None]) -> None:
    require(need)
    source = Overlay(FileSource(image_of("coreos")))
    source.write(0, _superblock_with(**values))
    with pytest.raises(UnsupportedError, match=word):
        XfsFilesystem(source)


@pytest.mark.parametrize("name", ["sb_blocksize", "sb_sectsize", "sb_inodesize", "sb_agblocks", "sb_dblocks"])
def test_impossible_geometry_is_corrupt(name: str, need: Callable[..., None]) -> None:
    require(need)
    source = Overlay(FileSource(image_of("coreos")))
    source.write(0, _superblock_with(**{name: 3}))
    with pytest.raises(CorruptError, match=name):
        XfsFilesystem(source)


@pytest.mark.parametrize("data", [b"", bytes(100), bytes(1 << 20), b"\x7fELF" * 4096])
def test_anything_else_is_not_xfs(data: bytes) -> None:
    with pytest.raises(CorruptError, match="not an XFS"):
        XfsFilesystem(BytesSource(data))
