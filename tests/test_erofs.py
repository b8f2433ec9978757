"""erofs file systems of the real mkfs.erofs: what their bytes and files are, and what is wrong with damaged ones."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rehydrator.disk.extents import Extent
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.errors import CorruptError, RehydratorError, UnsupportedError
from rehydrator.explain.explain import Options
from rehydrator.fs import path_room
from rehydrator.fs.erofs.c_erofs import SUPER_OFFSET, Dirent, SuperBlock
from rehydrator.fs.erofs.owner import ErofsFilesystem
from rehydrator.fs.erofs.superblock import compressions, read_superblock
from rehydrator.fs.place import Kind
from rehydrator.fs.probe import probe
from release_builder import suite_tools
from release_builder.tools import BuildError, Runner
from tests.support.compressible import compressible
from tests.support.explaining import check_account, compare_files

pytestmark = pytest.mark.oracle

FILES = {
    "empty": b"",
    "small": b"small\n",
    "block": compressible(1, 4096, holes=0),
    "large": compressible(2, 70_001, holes=0),
    "dir/nested/file": compressible(3, 9_000, holes=0),
}
# As Fedora CoreOS makes it; Debian 12's mkfs.erofs has no LZMA
COREOS = ("-zlzma,level=6", "-Eall-fragments,fragdedupe=inode", "-C1048576")


@pytest.fixture(scope="module")
def tree(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("mkfs.erofs")
    top = tmp_path_factory.mktemp("erofs") / "tree"
    for name, data in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    for number in range(400):
        (top / "dir" / f"a file with a rather long name, number {number}").write_bytes(b"%d" % number)
    (top / "link").symlink_to("dir/nested")
    os.link(top / "large", top / "linked")
    os.mkfifo(top / "pipe")
    os.setxattr(top / "large", "user.label", b"system_u:object_r:usr_t:s0")
    return top


def made(tree: Path, image: Path, *options: str, program: Sequence[str | Path] = ("mkfs.erofs",)) -> Path:
    subprocess.run([*program, *options, image, tree], check=True, capture_output=True)
    return image


@pytest.fixture(scope="module")
def plain(tree: Path) -> bytes:
    return made(tree, tree.with_name("plain")).read_bytes()


def paths_of(tree: Path) -> set[str]:
    return {"/", *(f"/{path.relative_to(tree)}" for path in tree.rglob("*"))}


@pytest.mark.parametrize("options", ["", "-Eforce-inode-compact", "-Eforce-inode-extended -Enoinline_data", "-x1"])
def test_every_byte_and_every_file_have_a_name(tree: Path, tmp_path: Path, options: str) -> None:
    with FileSource(made(tree, tmp_path / "fs", *options.split())) as source:
        filesystem = ErofsFilesystem(source)
        assert filesystem.complete
        places = list(filesystem.places([Extent(0, source.size)]))
        assert places[0].extent.offset == 0
        assert all(one.extent.end == two.extent.offset for one, two in itertools.pairwise(places))
        assert places[-1].extent.end == source.size
        assert not {place.kind for place in places} & {Kind.UNREAD, Kind.UNKNOWN}
        assert set(filesystem.nodes) == paths_of(tree)
        nodes, reader = filesystem.nodes, filesystem.reader
        assert {name: reader.read(nodes[f"/{name}"], 1 << 20) for name in FILES} == FILES
        assert reader.read(nodes["/large"], 5000) == FILES["large"][:5000]
        assert reader.read(nodes["/link"], 99) == b"dir/nested"
        assert nodes["/linked"].nid == nodes["/large"].nid
        assert all(node.inode.i_mode == (tree / name[1:]).lstat().st_mode for name, node in nodes.items())
        for place in places:
            if place.kind == Kind.FILE_DATA:
                start = place.file_offset
                data = FILES.get(place.path[1:]) or (tree / place.path[1:]).read_bytes()
                assert bytes(source.read(*place.extent)) == data[start : start + place.extent.length]
        assert not list(filesystem.health())


def test_compressed_data_is_said_to_be_unread(tree: Path, tmp_path: Path) -> None:
    with FileSource(made(tree, tmp_path / "fs", "-zlz4hc")) as source:
        filesystem = ErofsFilesystem(source)
        assert not filesystem.complete
        assert [item.name for item in compressions(filesystem.reader.superblock)] == ["LZ4"]
        assert set(filesystem.nodes) == paths_of(tree)
        with pytest.raises(UnsupportedError, match="compressed"):
            filesystem.reader.read(filesystem.nodes["/large"], 10)
        assert Kind.UNREAD in {place.kind for place in filesystem.places([Extent(0, source.size)])}
        assert not list(filesystem.health())


def _changed(tree: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", tree, target], check=True)
    (target / "small").write_bytes(b"no longer so small\n")
    (target / "new").write_bytes(b"new\n")
    (target / "link").unlink()
    return target


def test_explain_names_files_and_fields(tree: Path, plain: bytes, tmp_path: Path) -> None:
    """And the content of files that are not compressed."""
    one, other = tmp_path / "a.img", made(_changed(tree, tmp_path / "tree"), tmp_path / "b.img")
    one.write_bytes(plain)
    report = compare_files(one, other, Options())
    check_account(report)
    (part,) = report.parts
    assert (part.filesystem, part.note) == ("erofs", "")
    assert [(item.status, item.path) for item in part.files] == [("D", "/link"), ("A", "/new"), ("M", "/small")]
    fields = {field for change in part.changes if change.structure == Kind.SUPERBLOCK for field in change.fields}
    assert "uuid" in fields
    assert report.total.unexplained == 0


def test_explain_names_the_files_of_a_compressed_one(tree: Path, tmp_path: Path) -> None:
    """Its content takes a driver; names, sizes and the superblock's fields do not."""
    try:
        tools = suite_tools.tree_of(suite_tools.EROFS_UTILS, "trixie", Runner())
    except BuildError as error:
        pytest.skip(f"erofs-utils of trixie: {error}")
    program = tools.command("mkfs.erofs")
    one = made(tree, tmp_path / "a.img", *COREOS, program=program)
    other = made(_changed(tree, tmp_path / "tree"), tmp_path / "b.img", *COREOS, program=program)
    report = compare_files(one, other, Options())
    check_account(report)
    (part,) = report.parts
    assert (part.filesystem, part.note) == ("erofs", "erofs: compressed files are not read; use --mount")
    assert [(item.status, item.path) for item in part.files] == [("D", "/link"), ("A", "/new"), ("M", "/small")]
    with FileSource(one) as source:
        assert [item.name for item in compressions(read_superblock(source))] == ["LZMA"]


def _written(data: bytes, offset: int, patch: bytes) -> Source:
    overlay = Overlay(BytesSource(data))
    overlay.write(offset, patch)
    return overlay


def _superblock(data: bytes, **fields: int) -> Source:
    return _written(data, SUPER_OFFSET, SuperBlock.parse(data, SUPER_OFFSET).replaced(**fields).pack())


def test_damaged_superblocks(plain: bytes) -> None:
    cases: list[tuple[Source, type[RehydratorError], str]] = [
        (BytesSource(plain[: SUPER_OFFSET + 9]), CorruptError, "cut short"),
        (_superblock(plain, blkszbits=40), CorruptError, "impossible block size"),
        (_superblock(plain, feature_incompat=1 << 20), UnsupportedError, "unknown features"),
    ]
    for source, kind, message in cases:
        with pytest.raises(kind, match=message):
            ErofsFilesystem(source)
        found = probe(source)
        assert found is not None
        assert (found.type, found.filesystem) == ("erofs", None)
        assert message in found.problem


def test_damage_is_reported(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    good = ErofsFilesystem(BytesSource(plain))
    root = good.nodes["/"]
    entries = root.pieces[0].start
    beyond = SuperBlock.parse(plain, SUPER_OFFSET).replaced(root_nid=65_535).pack()
    nid = good.nodes["/dir"].nid
    entry = next(at for at in itertools.count(entries, Dirent.SIZE) if Dirent.parse(plain, at).nid == nid)
    size = root.start + root.inode.offset_of("i_size")
    cases = [
        (_superblock(plain, inos=1), "wrong checksum"),
        (_written(plain, SUPER_OFFSET, beyond), "an inode lies outside"),
        (_written(plain, entries + Dirent.offset_of("nameoff"), b"\xff\xff"), "no block of a directory"),
        (_written(plain, entry, (1 << 40).to_bytes(8, "little")), "an inode lies outside"),
        (_written(plain, size, b"\xff\xff\xff\x7f"), "lies outside"),
    ]
    for source, message in cases:
        filesystem = ErofsFilesystem(source)
        assert message in " ".join(item.problem for item in filesystem.health())
        assert sum(place.extent.length for place in filesystem.places([Extent(0, source.size)])) == source.size
    monkeypatch.setattr(path_room, "_MAX_NAMES", 10)
    assert "too many" in " ".join(item.problem for item in ErofsFilesystem(BytesSource(plain)).health())
