"""``--zipl native``: the image's own zipl, run in the appliance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import pytest

from rehydrator.disk.source import Source, Window
from rehydrator.edits.replay import BlobReader
from rehydrator.edits.zipl import Zipl
from rehydrator.engines.direct import base_source, body_source
from rehydrator.engines.guestfs.bindings import Handle
from rehydrator.engines.guestfs.engine import GuestfsEngine, Settlement
from rehydrator.engines.guestfs.machine import DEVICE_INSIDE, Machine
from rehydrator.engines.guestfs.native_zipl import EMULATOR, NativeZipl, ZiplAccount
from rehydrator.errors import UnsupportedError
from rehydrator.manifest.schema import EditedDisk
from rehydrator.store.reader import Store
from release_builder import zipl as roots
from release_builder.tools import Runner
from tests.support.cli import fails

T = TypeVar("T")
OPENSTACK = "openstack.qcow2.xz.disk"
ROOT = "/dev/sda4"
BOOTMAP_AND_RECORD = 45_720
_LIBRARIES = "lib/s390x-linux-gnu"
NEEDED = ("sbin/zipl", "lib/s390-tools", "lib/ld64.so.1", f"{_LIBRARIES}/ld64.so.1", f"{_LIBRARIES}/libc.so.6")


class Disks(msgspec.Struct):
    """openstack's disk of s390x, what it is made of, and how."""

    base: Source
    target: Source
    body: EditedDisk

    @property
    def edit(self) -> Zipl:
        [edit] = [edit for edit in self.body.edits if isinstance(edit, Zipl)]
        return edit


@pytest.fixture
def disks(both_store: Path) -> Iterator[Disks]:
    with Store(both_store) as store:
        manifest = store.manifest_by_key("s390x", OPENSTACK)
        assert isinstance(manifest.body, EditedDisk)
        yield Disks(base_source(manifest, store), body_source(manifest, store), manifest.body)


class Appliance:
    """A machine and handle in one, in which zipl ends with ``code``, if there is one."""

    def __init__(self, code: int = 0, program: str = "/usr/sbin/zipl") -> None:
        self.program = program
        self.code = code
        self.commands: list[str] = []
        self.mounted: list[tuple[str, ...]] = []

    def call(self, function: Callable[[Handle], T]) -> T:
        return function(cast(Handle, self))

    def debug_upload(self, filename: str, tmpname: str, mode: int) -> None:
        assert (filename, tmpname, mode) == (EMULATOR, f"/tmp/{EMULATOR}", 0o755)

    def realpath(self, path: str) -> str:
        assert path.startswith("/ostree/boot.1/")
        return "/the/deployment"

    def is_file(self, path: str, *, followsymlinks: int) -> int:
        return followsymlinks and path == f"/the/deployment{self.program}"

    def debug(self, subcmd: str, extraargs: Sequence[str]) -> str:
        assert subcmd == "sh"
        self.commands += extraargs
        return f"Building bootmap\nno such\n\n{self.code}\n"

    def mount_options(self, *words: str) -> None:
        self.mounted.append(words)

    def mount(self, *words: str) -> None:
        self.mounted.append(words)

    def umount_all(self) -> None:
        self.mounted.append(())


@pytest.fixture
def zipl_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Appliance], NativeZipl]:
    """Give a function that runs zipl in a stand-in, on a system that has the emulator."""
    monkeypatch.setattr("shutil.which", lambda name: name)
    return lambda appliance: NativeZipl(cast(Machine, appliance))


@pytest.mark.parametrize("program", ["/usr/sbin/zipl", "/usr/bin/zipl"])
def test_zipl_is_told_what_the_build_tells_it(
    program: str, disks: Disks, zipl_of: Callable[[Appliance], NativeZipl]
) -> None:
    appliance = Appliance(program=program)
    zipl_of(appliance).run(disks.edit, disks.base, disks.target)
    [command] = appliance.commands
    assert command.startswith(f"/tmp/{EMULATOR} -L /sysroot/the/deployment /sysroot/the/deployment{program} ")
    assert "ignition.platform.id=openstack ignition.firstboot'" in command
    assert f"--targetbase {DEVICE_INSIDE} --targettype SCSI --targetblocksize 512 --targetoffset 2048 2>&1" in command
    assert re.search(r"--image /sysroot/boot/\S+/vmlinuz-\S+ --ramdisk /sysroot/boot/\S+\.img ", command)
    assert appliance.mounted == [("ro,norecovery,nouuid", ROOT, "/"), ("/dev/sda3", "/boot"), ()]


@pytest.mark.parametrize(
    ("appliance", "message"),
    [
        (Appliance(code=3), r"zipl failed with 3\. It said last:\n  Building bootmap\n  no such\nLeave out"),
        (Appliance(program="/zipl"), r"/the/deployment: the image has no zipl in its deployment"),
    ],
)
def test_what_does_not_work_is_said(
    appliance: Appliance, message: str, disks: Disks, zipl_of: Callable[[Appliance], NativeZipl]
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        zipl_of(appliance).run(disks.edit, disks.base, disks.target)
    assert re.search(message, str(caught.value))


def test_a_missing_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match=rf"{EMULATOR}, which is not there.*qemu-user-static"):
        NativeZipl(cast(Machine, Appliance()))


@pytest.mark.parametrize("command", ["rehydrate", "verify"])
def test_the_direct_engine_runs_no_program(command: str, both_store: Path, tmp_path: Path) -> None:
    words = [tmp_path / "out", "--disk", "openstack"] if command == "rehydrate" else ["openstack"]
    fails(2, ["Add '--engine guestfs'"], command, *words, "--arch", "s390x", "--zipl", "native", "--store", both_store)


@pytest.mark.builder
def test_the_zipl_of_an_image_writes_what_the_release_has(
    disks: Disks, machine: Machine, real_zipl: Callable[[str], roots.Zipl], tmp_path: Path
) -> None:
    archive = tmp_path / "zipl.tar"
    Runner().run("tar", "-c", "-f", archive, "-C", real_zipl("sid").root / "usr", *NEEDED)
    base = machine.insert(disks.base)

    def install(handle: Handle) -> None:  # the small fixture's deployment has no zipl
        guest = cast(Any, handle)
        guest.mount_options("nouuid", ROOT, "/")
        [usr] = guest.glob_expand("/ostree/deploy/*/deploy/*.0/usr")
        guest.tar_in(str(archive), usr)
        guest.umount_all()

    machine.call(install)
    told: list[Settlement] = []
    blobs: BlobReader = pytest.fail  # the manifest has none
    engine = GuestfsEngine(machine, 2 << 30, told.append, NativeZipl(machine))
    changed = Window(base, 0, disks.base.size)  # the machine's drive is larger
    boot = [
        edit for edit in disks.body.edits if getattr(edit, "partition", disks.edit.partition) == disks.edit.partition
    ]
    made = engine.edited_disk(changed, msgspec.structs.replace(disks.body, edits=boot), blobs)
    assert bytes(made.read(0, 512)) == bytes(disks.target.read(0, 512))
    [account] = told
    assert account.zipl is not None
    assert account.zipl.total == BOOTMAP_AND_RECORD
    # What it writes otherwise are the numbers of blocks in pointers, since its bootmap got other blocks
    assert BOOTMAP_AND_RECORD - 100 <= account.zipl.right < BOOTMAP_AND_RECORD
    assert account.describe().endswith(account.zipl.describe())
    assert ZiplAccount(1, 2).describe() == "the image's zipl wrote 1 of 2 bytes of boot record and bootmap"
