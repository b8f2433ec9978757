"""zipl's boot record and bootmap: computed, taken apart, and compared with what real zipl writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.boot.zipl.build import Built, build
from rehydrator.boot.zipl.c_zipl import (
    BOOTMAP_TEXT,
    HEAP_ADDRESS,
    IMAGE_ADDRESS,
    PARAMETERS_ADDRESS,
    BlockPointer,
    BootRecord,
    ComponentType,
    Stage3Parameters,
)
from rehydrator.boot.zipl.parts import Component, Execute, Held, Parts, Referred, Role
from rehydrator.boot.zipl.pointers import HOLE, FileRun, Grid, Span, file_spans, merged, without_signature
from rehydrator.boot.zipl.read import BootmapFile, read_parts
from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import FileSource
from rehydrator.edits.blocks import Blocks, differing_blocks
from rehydrator.edits.recognise import recognise
from rehydrator.edits.replay import Replay
from rehydrator.edits.zipl import Zipl
from rehydrator.errors import CorruptError
from tests.support.blobs import Blobs
from tests.support.mounted import make_disk
from tests.support.one_partition import FREE
from tests.support.s390x import options_of, run_zipl, write_entry, write_files

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from release_builder import zipl as roots  # noqa: E402
from zipl_oracle.cli import main as check_zipl  # noqa: E402
from zipl_oracle.trial import run_trial, scenario  # noqa: E402

PARMLINE_ADDRESS = 0x4F0000
RAMDISK_ADDRESS = 0x500000


def make_parts(grid: Grid, parmline: str, ramdisk: list[Span]) -> Parts:
    """Return parts as zipl 2.18 and later have them, with small contents."""
    parameters = Stage3Parameters(
        parm_addr=PARMLINE_ADDRESS,
        initrd_addr=RAMDISK_ADDRESS,
        initrd_len=1,
        load_psw=0,
        extra_parm=0,
        flags=0,
        image_len=1,
        image_addr=IMAGE_ADDRESS,
    ).pack()
    load = ComponentType.LOAD
    components: tuple[Component, ...] = (
        Held(Role.HEAP, load, HEAP_ADDRESS, bytes(4 * grid.sector)),
        Held(Role.PARAMETERS, load, PARAMETERS_ADDRESS, parameters.ljust(grid.sector, b"\0")),
        Referred(Role.KERNEL, load, IMAGE_ADDRESS, (Span(77_000, 40),)),
        Held(Role.PARMLINE, load, PARMLINE_ADDRESS, parmline.encode() + b"\0"),
        Referred(Role.RAMDISK, load, RAMDISK_ADDRESS, tuple(ramdisk)),
        Execute(0x000800008000A000),
    )
    return Parts(grid, BOOTMAP_TEXT.ljust(512, b"\0"), 0, components)


def taken_apart(built: Built, blocks: list[int], grid: Grid) -> Parts:
    return read_parts(built.boot_record, BootmapFile(built.bootmap, blocks, grid.block_size))


spans = st.lists(
    st.one_of(st.just(Span(HOLE)), st.builds(Span, st.integers(50_000, 60_000), st.integers(1, 0x10000))),
    min_size=1,
    max_size=80,
)


@given(
    sector=st.sampled_from([512, 4096]),
    parmline=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=900).map(str.strip),
    ramdisk=spans,
    first=st.integers(1, 1000),
    start=st.integers(0, 4096),
)
def test_what_is_built_can_be_taken_apart(
    sector: int, parmline: str, ramdisk: list[Span], first: int, start: int
) -> None:
    grid = Grid(sector, 4096, start)
    blocks = list(range(first, first + 64))
    parts = make_parts(grid, parmline or "x", ramdisk)
    assert taken_apart(build(parts, blocks), blocks, grid) == parts
    moved = [*range(first + 2000, first + 2010), *range(first + 100, first + 154)]
    assert taken_apart(build(parts, moved), moved, grid) == parts


def test_another_parmline_changes_one_sector_only() -> None:
    grid = Grid(512, 1024, 2048)
    blocks = list(range(9000, 9100))
    parts = make_parts(grid, "root=/dev/sda", [Span(60_000, 5)])
    assert parts.parmline == "root=/dev/sda"
    old, new = build(parts, blocks), build(parts.with_parmline("root=/dev/sdb quiet"), blocks)
    assert new.boot_record == old.boot_record
    different = {at // 512 for at in range(len(old.bootmap)) if old.bootmap[at] != new.bootmap[at]}
    assert len(different) == 1
    longer = build(parts.with_parmline("x" * 512), blocks)
    assert len(longer.bootmap) == len(old.bootmap) + 512, "the parmline and its end need a second sector"
    assert longer.boot_record != old.boot_record


@pytest.mark.parametrize(
    ("name", "runs", "size", "window", "expected"),
    [
        ("plain", [FileRun(0, 10, 3)], 3072, True, [Span(120, 6)]),
        ("cut by the size", [FileRun(0, 10, 3)], 2049, True, [Span(120, 5)]),
        ("contiguous extents join", [FileRun(0, 10, 1), FileRun(1, 11, 1)], 2048, True, [Span(120, 4)]),
        ("hole, as it should be", [FileRun(1, 10, 1)], 2048, False, [Span(HOLE), Span(HOLE), Span(120, 2)]),
        ("hole, as zipl has it", [FileRun(1, 10, 1)], 2048, True, [Span(HOLE), Span(119, 3)]),
        ("hole at the end", [FileRun(0, 10, 1)], 2048, True, [Span(120, 2), Span(HOLE), Span(HOLE)]),
        ("empty", [], 0, True, []),
    ],
)
def test_sectors_of_files(name: str, runs: list[FileRun], size: int, window: bool, expected: list[Span]) -> None:
    assert file_spans(runs, size, Grid(512, 1024, 100), block_window=window) == expected, name


def test_a_pointer_counts_65536_sectors_at_most() -> None:
    assert merged([Span(0, 65_535), Span(65_535, 2)]) == [Span(0, 65_536), Span(65_536, 1)]
    assert merged([Span(5, 200_000)]) == [
        Span(5, 65_536),
        Span(65_541, 65_536),
        Span(131_077, 65_536),
        Span(196_613, 3392),
    ]


def test_an_appended_signature_is_not_loaded() -> None:
    trailer = bytes(8) + (600).to_bytes(4, "big") + b"~Module signature appended~\n"
    assert without_signature([Span(10, 4), Span(90, 1)], trailer, 512) == [Span(10, 3)]
    assert without_signature([Span(10, 4)], b"no signature", 512) == [Span(10, 4)]


def test_damage_is_named() -> None:
    grid = Grid(512, 1024, 2048)
    blocks = list(range(9000, 9100))
    built = build(make_parts(grid, "quiet", [Span(60_000, 5)] * 90), blocks)

    def refused(record: bytes, content: bytes, places: list[int]) -> str:
        with pytest.raises(CorruptError) as caught:
            read_parts(record, BootmapFile(content, places, 1024))
        return str(caught.value)

    at = BootRecord.offset_of("program_table_pointer")
    size = at + BlockPointer.offset_of("size")
    record = built.boot_record
    assert "no zipl boot record" in refused(b"\0" + record[1:], built.bootmap, blocks)
    assert "impossible block size" in refused(record[:size] + b"\1\1" + record[size + 2 :], built.bootmap, blocks)
    assert "not a bootmap" in refused(record, bytes(len(built.bootmap)), blocks)
    assert "fewer blocks" in refused(record, built.bootmap, blocks[:5])
    assert "program table has no magic" in refused(record, built.bootmap[:-512] + bytes(512), blocks)
    with pytest.raises(CorruptError, match="too small"):
        build(make_parts(grid, "quiet", []), blocks[:4])


def test_any_flipped_byte_of_a_bootmap_is_survived() -> None:
    grid = Grid(512, 1024, 2048)
    blocks = list(range(9000, 9100))
    built = build(make_parts(grid, "quiet", [Span(60_000, 5)] * 90), blocks)
    for at in range(0, len(built.bootmap), 7):
        content = bytearray(built.bootmap)
        content[at] ^= 0x81
        try:
            read_parts(built.boot_record, BootmapFile(bytes(content), blocks, 1024))
        except CorruptError:
            continue


@pytest.mark.oracle
@pytest.mark.builder
@pytest.mark.parametrize("suite", roots.SUITES)
@pytest.mark.parametrize("seed", range(4))
def test_real_zipl_writes_the_same(
    real_zipl: Callable[[str], roots.Zipl], suite: str, seed: int, tmp_path: Path
) -> None:
    outcome = run_trial(scenario(seed), real_zipl(suite), tmp_path)
    assert outcome.problems == ()
    assert outcome.segments > 1


@pytest.mark.oracle
@pytest.mark.builder
@pytest.mark.parametrize(
    ("ext4", "platform", "parmline", "spelled_out"),
    [
        (["-b", "1024"], "openstack", None, False),
        (["-b", "4096"], "qemu", None, False),
        (["-b", "1024"], "kubevirt-" + "x" * 500, None, False),
        (["-b", "1024"], "openstack", "forgotten=arguments", True),
    ],
    ids=["1k", "4k", "long", "other parmline"],
)
def test_siblings_are_told_by_a_zipl_edit(
    real_zipl: Callable[[str], roots.Zipl],
    ext4: list[str],
    platform: str,
    parmline: str | None,
    spelled_out: bool,
    tmp_path: Path,
) -> None:
    raw, metal, sibling = (tmp_path / f"{name}.raw" for name in ("raw", "metal", "sibling"))
    make_disk(raw, ext4)
    write_files(raw)
    zipl = real_zipl(roots.SUITES[1])
    for image, name, text in ((metal, "metal", None), (sibling, platform, parmline)):
        subprocess.run(["cp", "--sparse=always", raw, image], check=True)
        options = options_of(name)
        write_entry(image, options)
        run_zipl(image, zipl, text or f"{options} ignition.firstboot", 512)
    blobs = Blobs()
    with FileSource(metal) as before, FileSource(sibling) as after:
        differing = list(differing_blocks(before, after))
        found = recognise(before, after, read_table(before), differing, blobs)
        replay = Replay(before, found.times, blobs.content.__getitem__)
        for edit in found.edits:
            edit.apply(replay)
        assert list(differing_blocks(replay.disk, after)) == []
    records = [edit for edit in found.edits if isinstance(edit, Zipl)]
    assert [edit.parmline for edit in records] == [parmline if spelled_out else None]
    assert records[0].describe() == f"zipl: parmline = {parmline or 'BLS options + ignition.firstboot'}"
    blocks = [edit for edit in found.edits if isinstance(edit, Blocks)]
    left = [edit.owner for edit in blocks if "boot" in edit.owner and FREE not in edit.owner]
    assert left == []
    shutil.rmtree(tmp_path)


@pytest.mark.oracle
@pytest.mark.builder
def test_the_script_takes_another_zipl(
    real_zipl: Callable[[str], roots.Zipl], capsys: pytest.CaptureFixture[str]
) -> None:
    root = real_zipl(roots.SUITES[0]).root
    assert check_zipl(["--count", "1", "--seed", "7", "--root", str(root)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("seed 7: zipl 2.16.0, ")
    assert first.endswith("identical")
    assert last == "1 of 1 identical"
    assert check_zipl(["--count", "1", "--root", str(root / "usr")]) == 2
    assert f"no zipl in {root / 'usr'}" in capsys.readouterr().err
