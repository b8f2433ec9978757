"""``synthesize``: images that the release never had, judged by other programs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.check import check
from rehydrator.checks.finding import Level
from rehydrator.disk.gpt import read_table
from rehydrator.disk.sink import HashSink, copy
from rehydrator.disk.source import BytesSource, FileSource, Source
from rehydrator.engines.direct import Engine, edited_disk
from rehydrator.engines.guestfs.engine import driven_disk
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.errors import UnsupportedError
from rehydrator.store.reader import Store
from rehydrator.synthesis.recipe import recipe
from rehydrator.synthesis.usual import FORMATS
from rehydrator.synthesis.wish import Wish, parse_size
from rehydrator.synthesize import synthesis
from release_builder import bootconfig
from tests.support import tiny_disk as tiny
from tests.support.cli import PROGRAM, fine, run
from tests.support.containers import write_source
from tests.support.disks import MIB

ENTRY = "/loader.1/entries/ostree-1-fedora-coreos.conf"
CONSOLE = "/grub2/console.cfg"
NEITHER = bootconfig.Console()


def make(store: Path, out: Path, *words: str, env: dict[str, str] | None = None) -> Path:
    """Synthesize into a directory; return the file."""
    done = fine("synthesize", *words[:1], out, *words[1:], "--store", store, env=env)
    return Path(done.out.decode().split()[1])


def boot_partition(disk: Source, out: Path) -> Path:
    """Copy the boot partition of a raw disk, which e2fsck has to find clean."""
    extent = next(region.extent for region in read_table(disk).regions if region.name == "p3 boot")
    out.write_bytes(disk.read(*extent))
    subprocess.run(["e2fsck", "-fn", out], check=True, capture_output=True)
    return out


def boot_of(disk: Path) -> Path:
    with FileSource(disk) as source:
        return boot_partition(source, disk.with_suffix(".boot"))


def told(partition: Path, path: str) -> str:
    """Return a file as debugfs finds it."""
    done = subprocess.run(["debugfs", "-R", f"cat {path}", partition], capture_output=True, check=True)
    return done.stdout.decode("latin-1")


def wished(platform: str, arguments: tuple[str, ...]) -> str:
    """Return the entry that the release builder's own code makes."""
    return bootconfig.append_options(bootconfig.change_platform(tiny.ENTRY, platform, NEITHER, NEITHER), arguments)


# -- what was wished is there


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("words", "arguments", "commands"),
    [
        (["openstack"], bootconfig.X86_64_CONSOLES["openstack"].kernel_arguments, ("serial --speed=115200",)),
        (["azurestack"], (), ()),
        (["new", "--kargs", "a=1", "--kargs", "b c"], ("a=1", "b", "c"), ()),
        (["new", "--console", "terminal_input a", "--console", "serial"], (), ("terminal_input a", "serial")),
        (["new", "--kargs", "x" * 1000], ("x" * 1000,), ()),
        (["new", "--kargs", "x" * 3000, "--console", "y" * 2000], ("x" * 3000,), ("y" * 2000,)),
    ],
    ids=["openstack", "no settings", "arguments", "console", "one block more", "several blocks more"],
)
def test_an_image_has_what_was_wished(
    words: list[str],
    arguments: tuple[str, ...],
    commands: tuple[str, ...],
    tiny_store: Path,
    tmp_path: Path,
    need: Callable[..., None],
) -> None:
    need("debugfs", "e2fsck")
    boot = boot_of(make(tiny_store, tmp_path, *words, "--format", "raw"))
    assert told(boot, ENTRY) == wished(words[0], arguments)
    expected = bootconfig.replace_console_settings(bootconfig.console_cfg(()), commands)
    assert told(boot, CONSOLE).startswith(expected.partition("# CONSOLE-SETTINGS-END")[0].rstrip("\n"))


@pytest.fixture(scope="module")
def eras(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Callable[[str], Path]:
    """Return a function that gives the store of an era."""
    need("mkfs.ext4", "debugfs", "e2fsck")
    work = tmp_path_factory.mktemp("eras")
    stores = {era: tiny.store_of(tiny.tiny_disk(work / era, era), work / era) for era in tiny.ERAS}
    return stores.__getitem__


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("era", "config"), [("three files", CONSOLE), ("marks in grub.cfg", "/grub2/grub.cfg"), ("entry only", "")]
)
def test_an_image_is_made_as_its_era_made_them(
    era: str, config: str, eras: Callable[[str], Path], tmp_path: Path
) -> None:
    boot = boot_of(make(eras(era), tmp_path, "openstack", "--format", "raw"))
    console = bootconfig.X86_64_CONSOLES["openstack"] if config else NEITHER
    assert told(boot, ENTRY) == wished("openstack", console.kernel_arguments)
    for path in (CONSOLE, "/grub2/grub.cfg"):
        assert (told(boot, path).count("serial --speed=115200\n") == 1) is (path == config)


PIECES = st.text("abcxyz=,. $0123", min_size=1, max_size=400).map(str.strip).filter(bool)


@pytest.mark.oracle
@settings(max_examples=12)
@given(
    platform=st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    arguments=st.lists(PIECES, max_size=4).map(tuple),
    console=st.none() | st.lists(PIECES, max_size=4).map(tuple),
    more=st.integers(0, 3),
    epoch=st.none() | st.integers(0, (1 << 32) - 1),
    format_name=st.sampled_from(FORMATS),
)
def test_any_wish_gives_the_same_bytes_twice_and_a_clean_file_system(
    platform: str,
    arguments: tuple[str, ...],
    console: tuple[str, ...] | None,
    more: int,
    epoch: int | None,
    format_name: str,
    tiny_store: Path,
    tmp_path: Path,
    need: Callable[..., None],
) -> None:
    need("debugfs", "e2fsck")
    size = tiny.SIZE + more * MIB
    wish = Wish(platform=platform, arguments=arguments, console=console, size=size, epoch=epoch)

    def digest() -> str:
        with Store(tiny_store) as store:
            sink = HashSink()
            copy(synthesis(store, "x86_64", wish, format_name).content, sink)
            return sink.hexdigest()

    assert digest() == digest()
    with Store(tiny_store) as store:
        disk = synthesis(store, "x86_64", wish, "raw").content
        assert disk.size == size
        boot = boot_partition(disk, tmp_path / "boot")
    options = told(boot, ENTRY).splitlines()[2]
    assert options.startswith(f"options {tiny.OPTIONS} ignition.platform.id={platform}")
    assert options.endswith(" ".join(arguments))
    assert console is None or "\n".join(console) in told(boot, CONSOLE)


GOLDEN = """\
new differs from metal only in: disk size, kernel arguments, console settings

A  fedora-coreos-40.20260101.1.0-metal.x86_64.raw
   raw disk, 11.0 MiB
B  fedora-coreos-40.20260101.1.0-new.x86_64.raw
   raw disk, 2.0 GiB
   disk grew 11.0 MiB -> 2.0 GiB; same partitions; backup GPT not moved

p3 boot ext4
  M /grub2/console.cfg
      +terminal_input a
  M /loader.1/entries/ostree-1-fedora-coreos.conf
      -ignition.platform.id=metal
      +ignition.platform.id=new
      +a=1
  file-metadata
    2 inodes: i_size_lo
      inode N /grub2/console.cfg
      inode N /loader.1/entries/ostree-1-fedora-coreos.conf
  inode-timestamp
    2 inodes: i_ctime i_mtime
      inode N /grub2/console.cfg
      inode N /loader.1/entries/ostree-1-fedora-coreos.conf
      + checksum-of:inode

health: nothing wrong in GPT headers and entry arrays, ext4 metadata of p3 boot
"""


def without_counts(report: str) -> str:
    """Leave out what depends on where mkfs put the files: counts of bytes and blocks, and inode numbers."""
    report = re.sub(r" \(\+\s[^)]*derived\)", "", report.replace("\nsettings", " settings"))
    report = re.sub(r"(?m)( +(\d+ blocks|\d+ B|->|\d+ \+ \d+ B))+$", "", report)
    report = re.sub(r"\+ \d+ B checksum", "+ checksum", report)
    return re.sub(r"inode \d+", "inode N", report)


def test_explain_lists_exactly_the_wish(tiny_store: Path, tmp_path: Path) -> None:
    wish = ["--kargs", "a=1", "--console", "terminal_input a", "--size", "2G", "--format", "raw"]
    disk = make(tiny_store, tmp_path, "new", *wish, env={"SOURCE_DATE_EPOCH": "1700000000"})
    fine("rehydrate", tmp_path, "--disk", "metal", "--store", tiny_store)
    [metal] = tmp_path.glob("*-metal.*")
    done = run("explain", metal, disk)
    assert done.code == 1
    assert without_counts(done.text).startswith(GOLDEN)
    assert re.search(r"\n(\d+) of \1 differing bytes explained\n$", done.text)


def test_check_finds_a_usual_image_healthy(real_store: Path, tmp_path: Path) -> None:
    fine("check", make(real_store, tmp_path, "openstack", "--size", "2G"))


def test_the_platform_of_the_canonical_disk_is_the_canonical_disk(tiny_store: Path, tmp_path: Path) -> None:
    made = make(tiny_store, tmp_path / "made", "metal", "--format", "raw")
    fine("rehydrate", tmp_path, "--disk", "metal", "--store", tiny_store)
    [metal] = tmp_path.glob("*-metal.*")
    assert made.name == metal.name
    assert made.read_bytes() == metal.read_bytes()


def test_a_pipe_gets_the_same(tiny_store: Path, tmp_path: Path) -> None:
    made = make(tiny_store, tmp_path, "new")
    done = fine("synthesize", "new", "-", "--store", tiny_store)
    assert done.out == made.read_bytes()


# -- s390x


@pytest.mark.oracle
def test_zipl_is_run_again(both_store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    need("debugfs", "e2fsck")
    words = ["--arch", "s390x", "--kargs", "x" * 300]
    made = make(both_store, tmp_path, "openstack", *words, "--format", "raw")
    fine("check", made)  # which compares the bootmap with the boot entry, kernel and initrd
    bootmap = told(boot_of(made), "/bootmap")
    assert "ignition.platform.id=openstack " + "x" * 300 + " ignition.firstboot" in bootmap


def test_arguments_that_do_not_fit_the_bootmap_are_refused(both_store: Path, tmp_path: Path) -> None:
    done = run("synthesize", "new", tmp_path / "out", "--arch", "s390x", "--kargs", "x" * 3000, "--store", both_store)
    assert (done.code, "the wish can't be fulfilled" in done.err) == (2, True)
    assert not list((tmp_path / "out").glob("*"))


# -- the other engine


@pytest.mark.builder
@pytest.mark.parametrize(
    ("arch", "paths"), [("x86_64", [ENTRY, CONSOLE]), ("s390x", ["/loader.1/entries/ostree-1-fedora-coreos.conf"])]
)
def test_a_driver_writes_the_same_files(
    arch: str, paths: list[str], both_store: Path, machine: Machine, tmp_path: Path, need: Callable[..., None]
) -> None:
    need("debugfs", "e2fsck")
    wish = Wish(platform="new", arguments=("x" * 500,), size=2 << 30)
    engines: tuple[Engine, ...] = (edited_disk, partial(driven_disk, machine))
    boots, found = [], []
    with Store(both_store) as store:
        for number, engine in enumerate(engines):
            disk = synthesis(store, arch, wish, "raw", engine).content
            assert disk.size == wish.size
            boots.append(boot_partition(disk, tmp_path / str(number)))
            image = write_source(disk, tmp_path / f"{number}-new.{arch}.raw")
            found.append([item.check for item in check(image).findings if item.level is Level.ERROR])
    assert found[0] == found[1]
    for path in paths:
        assert told(boots[0], path) == told(boots[1], path) != ""


# -- what can't be made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["New"], "not the name of a platform"),
        (["../new"], "not the name of a platform"),
        (["new\n"], "not the name of a platform"),
        ([""], "not the name of a platform"),
        (["new", "--kargs", "a\nb"], "not kernel arguments"),
        (["new", "--kargs", " a"], "not kernel arguments"),
        (["new", "--kargs", ""], "not kernel arguments"),
        (["new", "--kargs", "a\udcff"], "not kernel arguments"),
        (["new", "--kargs", "a ignition.platform.id=b"], "not named by --kargs"),
        (["new", "--kargs", "x" * 5000], "too long"),
        (["new", "--console", "# CONSOLE-SETTINGS-END"], "not a GRUB command"),
        (["new", "--console", "a\n# CONSOLE-SETTINGS-END"], "not a GRUB command"),
        (["new", "--console", "x" * 70_000], "too long"),
        (["new", "--size", "1M"], "can't be made smaller"),
        (["new", "--size", "ten"], "not the size of a disk"),
        (["new", "--size", "0"], "not the size of a disk"),
        (["new", "--size", "20000001"], "not the size of a disk"),
        (["new", "--size", "17T"], "too large"),
        (["new", "--size", "3T", "--format", "vmdk"], "can't be fulfilled"),
        (["new", "--format", "iso"], "iso"),
        (["new", "--arch", "s390x"], "s390x"),
    ],
)
def test_what_can_not_be_made_is_said(words: list[str], message: str, tiny_store: Path, tmp_path: Path) -> None:
    done = run("synthesize", words[0], tmp_path / "out", *words[1:], "--store", tiny_store)
    assert (done.code, message in done.err, "Traceback" in done.err) == (2, True, False), done.err
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("epoch", ["-1", "soon", "1.5", "9" * 5000, str(1 << 32)])
def test_a_time_that_files_can_not_have_is_refused(epoch: str, tiny_store: Path, tmp_path: Path) -> None:
    env = {"SOURCE_DATE_EPOCH": epoch}
    done = run("synthesize", "new", tmp_path, "--format", "vhdx.zip", "--store", tiny_store, env=env)
    assert (done.code, len(done.complaints), list(tmp_path.iterdir())) == (2, 1, []), done.err


def test_a_full_boot_partition_is_said(tmp_path: Path, need: Callable[..., None]) -> None:
    need("mkfs.ext4")
    disk = BytesSource(tiny.tiny_disk(tmp_path, filled=4650 << 10))
    recipe(disk, Wish(platform="new"))
    with pytest.raises(UnsupportedError, match="no room for the new files"):
        recipe(disk, Wish(platform="new", arguments=("x" * 4000,), console=tuple("y" * 1000 for _ in range(10))))


def test_a_disk_without_a_boot_partition_of_ext4_is_said(small_store: Path, tmp_path: Path) -> None:
    done = run("synthesize", "new", tmp_path / "out", "--store", small_store)
    assert (done.code, "p3 boot: the boot partition has no ext4" in done.err) == (3, True), done.err


def test_a_full_disk_leaves_nothing(tiny_store: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        argv: list[str | Path] = [*PROGRAM, "synthesize", "new", "-", "--store", tiny_store]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert (done.returncode, "No space left" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("1k", 1024), ("10G", 10 << 30), ("2T", 2 << 40)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size
