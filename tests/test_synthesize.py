"""``synthesize``: images that the release never had, judged by other programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import FileSource, Source
from rehydrator.engines.direct import Engine, edited_disk
from rehydrator.engines.guestfs.engine import driven_disk
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.errors import UsageError
from rehydrator.store.reader import Store
from rehydrator.synthesis.wish import Wish, parse_size
from rehydrator.synthesis.wrapping import NAMES
from rehydrator.synthesize import synthesis
from tests.support.cli import fine, run

ENTRY = "/loader.1/entries/ostree-1-fedora-coreos.conf"
MARKS = "# CONSOLE-SETTINGS-START\n{}\n# CONSOLE-SETTINGS-END\n"


def make(store: Path, out: Path, *words: str, env: dict[str, str] | None = None) -> Path:
    """Synthesize into a directory; return the file."""
    done = fine("synthesize", *words[:1], out, *words[1:], "--store", store, env=env)
    return Path(done.out.decode().split()[1])


def boot_partition(disk: Source, out: Path) -> Path:
    """Copy the boot partition of a raw disk."""
    extent = next(region.extent for region in read_table(disk).regions if region.name == "p3 boot")
    out.write_bytes(disk.read(*extent))
    return out


def told(partition: Path, path: str) -> str:
    """Return a file as debugfs finds it."""
    return subprocess.run(["debugfs", "-R", f"cat {path}", partition], capture_output=True, check=True).stdout.decode()


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("words", "arguments", "console"),
    [
        (
            ["openstack"],
            ["ignition.platform.id=openstack", "console=ttyS0,115200n8", "console=tty0"],
            "serial --speed=115200\n",
        ),
        (["azurestack"], ["ignition.platform.id=azurestack"], "\n"),
        (["new", "--kargs", "a=1", "--kargs", "b c"], ["ignition.platform.id=new", "a=1", "b", "c"], "\n"),
        (["new", "--console", "terminal_input a"], ["ignition.platform.id=new"], "terminal_input a\n"),
        (["qemu", "--kargs", "x" * 1000], ["ignition.platform.id=qemu", "x" * 1000], ""),
        (["new", "--kargs", "x" * 3000, "--console", "y" * 2000], ["x" * 3000], "y" * 2000),
    ],
    ids=["openstack", "no settings", "arguments", "console", "one block more", "several blocks more"],
)
def test_an_image_has_what_was_wished(
    words: list[str],
    arguments: list[str],
    console: str,
    real_store: Path,
    tmp_path: Path,
    need: Callable[..., None],
) -> None:
    need("debugfs", "e2fsck")
    disk = make(real_store, tmp_path, *words, "--format", "raw")
    with FileSource(disk) as source:
        partition = boot_partition(source, tmp_path / "boot")
    subprocess.run(["e2fsck", "-fn", partition], check=True, capture_output=True)
    [options] = [line for line in told(partition, ENTRY).splitlines() if line.startswith("options ")]
    assert options.endswith(arguments[-1])
    assert all(options.split().count(argument) == 1 for argument in arguments)
    assert "ignition.platform.id=metal" not in options
    assert console in told(partition, "/grub2/console.cfg")


def test_explain_lists_exactly_the_wish(real_store: Path, tmp_path: Path) -> None:
    disk = make(real_store, tmp_path, "new", "--kargs", "a=1", "--console", "terminal_input a", "--size", "2G")
    fine("rehydrate", tmp_path, "--disk", "metal", "--store", real_store)
    [metal] = tmp_path.glob("*-metal.*")
    done = run("explain", metal, disk, "--output", "json")
    assert done.code == 1
    report = json.loads(done.out)
    assert report["verdict"].startswith("new differs from metal only in: disk size, kernel arguments, console settings")


def test_check_finds_a_usual_image_healthy(real_store: Path, tmp_path: Path) -> None:
    fine("check", make(real_store, tmp_path, "openstack", "--size", "2G"))


def test_the_platform_of_the_canonical_disk_is_the_canonical_disk(real_store: Path, tmp_path: Path) -> None:
    made = make(real_store, tmp_path / "made", "metal", "--format", "raw")
    fine("rehydrate", tmp_path, "--disk", "metal", "--store", real_store)
    [metal] = tmp_path.glob("*-metal.*")
    assert made.name == metal.name
    assert made.read_bytes() == metal.read_bytes()


@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name in NAMES if name != "raw"])
def test_each_format_holds_the_disk(name: str, real_store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    need("qemu-img", "tar")
    raw = make(real_store, tmp_path, "qemu", "--format", "raw")
    made = make(real_store, tmp_path, "qemu", "--format", name)
    assert made.name == raw.name.removesuffix("raw") + name
    if name == "tar":
        subprocess.run(["tar", "-C", tmp_path, "-xf", made], check=True)
        made = tmp_path / "disk.raw"
    format_name = {"vhd": "vpc", "tar": "raw"}.get(name, name)
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", format_name, raw, made], check=True)
    if name in ("qcow2", "vhdx"):
        subprocess.run(["qemu-img", "check", made], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_wish_gives_the_same_bytes(name: str, real_store: Path, tmp_path: Path) -> None:
    def content(directory: str, epoch: str) -> bytes:
        env = {"SOURCE_DATE_EPOCH": epoch}
        return make(real_store, tmp_path / directory, "new", "--format", name, env=env).read_bytes()

    assert content("a", "1700000000") == content("b", "1700000000")
    assert content("c", "1700000001") != content("a", "1700000000")


def test_a_pipe_gets_the_same(real_store: Path, tmp_path: Path) -> None:
    made = make(real_store, tmp_path, "new")
    done = fine("synthesize", "new", "-", "--store", real_store)
    assert done.out == made.read_bytes()


@pytest.fixture(scope="module")
def s390x_store(s390x_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("s390x") / "store"
    fine("build", "dehydrate", s390x_release, store, "--arch", "s390x", "--progress", "none")
    return store


@pytest.mark.oracle
def test_zipl_is_run_again(s390x_store: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    need("debugfs")
    words = ["--arch", "s390x", "--kargs", "x" * 300]
    made = make(s390x_store, tmp_path, "openstack", *words, "--format", "raw")
    fine("check", made)  # which compares the bootmap with the boot entry, kernel and initrd
    with FileSource(made) as source:
        partition = boot_partition(source, tmp_path / "boot")
    bootmap = subprocess.run(["debugfs", "-R", "cat /bootmap", partition], capture_output=True, check=True).stdout
    assert b"ignition.platform.id=openstack " + b"x" * 300 + b" ignition.firstboot" in bootmap


def test_arguments_that_do_not_fit_the_bootmap_are_refused(s390x_store: Path, tmp_path: Path) -> None:
    done = run("synthesize", "new", tmp_path / "out", "--arch", "s390x", "--kargs", "x" * 3000, "--store", s390x_store)
    assert (done.code, "the wish can't be fulfilled" in done.err) == (2, True)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.builder
def test_a_driver_writes_the_same_files(
    real_store: Path, machine: Machine, tmp_path: Path, need: Callable[..., None]
) -> None:
    need("debugfs", "e2fsck")
    wish = Wish(platform="new", arguments=("x" * 1500,), size=2 << 30)
    partitions = []
    engines: tuple[Engine, ...] = (edited_disk, partial(driven_disk, machine))
    with Store(real_store) as store:
        for number, engine in enumerate(engines):
            made = synthesis(store, "x86_64", wish, "raw", engine)
            assert made.content.size == wish.size
            partitions.append(boot_partition(made.content, tmp_path / str(number)))
    for partition in partitions:
        subprocess.run(["e2fsck", "-fn", partition], check=True, capture_output=True)
    for path in (ENTRY, "/grub2/console.cfg"):
        assert told(partitions[0], path) == told(partitions[1], path) != ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["New"], "not the name of a platform"),
        (["new", "--kargs", "a\nb"], "not kernel arguments"),
        (["new", "--kargs", " a"], "not kernel arguments"),
        (["new", "--console", "# CONSOLE-SETTINGS-END"], "not a GRUB command"),
        (["new", "--size", "1M"], "can't be made smaller"),
        (["new", "--size", "ten"], "not the size of a disk"),
        (["new", "--kargs", "x" * 5000], "too long"),
        (["new", "--arch", "s390x"], "s390x"),
    ],
)
def test_what_can_not_be_made_is_said(words: list[str], message: str, real_store: Path, tmp_path: Path) -> None:
    done = run("synthesize", *words[:1], tmp_path / "out", *words[1:], "--store", real_store)
    assert done.code == 2, done.err
    assert message in done.err
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("1k", 1024), ("10G", 10 << 30), ("2T", 2 << 40)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_wish_is_checked() -> None:
    with pytest.raises(UsageError):
        Wish(platform="a/b")
