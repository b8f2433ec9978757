"""Images that the tool gives back are started in emulators, and say which platform they are.

A release of four architectures is built, dehydrated into one store and rehydrated from it. Nothing but the emulator
runs code of a foreign architecture, and nothing writes to the images. What ``check`` finds wrong does not boot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from boot_test.cli import LARGE_SECTOR, Trial
from boot_test.cli import main as boot_test
from boot_test.console import Console, start
from boot_test.machines import MACHINES, Machine
from rehydrator.boot.zipl.c_zipl import BlockPointer, BootRecord
from rehydrator.check import check
from rehydrator.checks.finding import Check, Level
from rehydrator.manifest.schema import Rung
from rehydrator.store.reader import Store
from tests.support.bootable import bootable_release
from tests.support.cli import fine
from tests.support.disks import MIB
from tests.support.mounted import loop_device
from tests.support.packages import PACKAGES

pytestmark = [pytest.mark.builder, pytest.mark.boot]

BY_NAME = {machine.name: machine for machine in MACHINES}
ZIPL = BY_NAME["s390x ccw"]
ID = "ignition.platform.id="
# Where the boot partition begins, after what the firmware of the architecture needs.
BOOT_START = {"x86_64": 129 * MIB, "s390x": 1 * MIB}
BOOT_SIZE = 384 * MIB


@dataclass(frozen=True)
class Damage:
    """One byte that is flipped; ``offset`` finds it. ``expected`` is the check that has to name it.

    ``said`` is why the machine gives up, as its firmware or boot loader says it.
    """

    machine: str
    offset: Callable[[Path], int]
    expected: Check
    said: str


def _after(place: int, magic: bytes, offset: int) -> Callable[[Path], int]:
    """Return a function that finds a byte ``offset`` behind the start of ``magic``, which lies on a sector."""

    def find(image: Path) -> int:
        with image.open("rb") as stream:
            stream.seek(place)
            data = stream.read(BOOT_SIZE)
        at = data.index(magic)
        while at % 512:
            at = data.index(magic, at + 1)
        return place + at + offset

    return find


def _pe_machine(image: Path) -> int:
    with image.open("rb") as stream:
        stream.seek(2 * MIB)
        return 2 * MIB + stream.read(127 * MIB).index(b"PE\0\0\x64\xaa") + 4


def _pointer(_image: Path) -> int:
    return BootRecord.offset_of("program_table_pointer") + BlockPointer.offset_of("size") - 1


DAMAGES = {
    "signature of the MBR": Damage("x86_64 BIOS", lambda _: 510, Check.PARTITION_TABLE, "Boot failed"),
    "label of boot": Damage(
        "x86_64 UEFI", lambda _: BOOT_START["x86_64"] + 1024 + 0x78, Check.LABEL, "no such device: boot"
    ),
    "machine of the EFI program": Damage("aarch64 UEFI", _pe_machine, Check.EFI_LOADER, "failed to load"),
    "magic of the PReP program": Damage("ppc64le SLOF", lambda _: MIB + 1, Check.PREP_LOADER, "E34"),
    "boot record's pointer": Damage(ZIPL.name, _pointer, Check.BOOT_RECORD, "No zIPL magic in PT"),
    "magic of the component table": Damage(
        ZIPL.name, _after(BOOT_START["s390x"], b"zIPL" + bytes(28), 0), Check.BOOTMAP, "No zIPL magic in header"
    ),
}

SYNTHESIZED = {"x86_64 BIOS": "vmdk", ZIPL.name: "qcow2"}  # machine and format
WISHED = "rehydrator.wish=1"


class Images:
    """The rehydrated images and what their consoles said: each is started once, as many at a time as there are CPUs."""

    def __init__(self, directory: Path, pool: ThreadPoolExecutor) -> None:
        self.directory = directory
        self.changed = directory.with_name("changed")
        self.changed.mkdir()
        self._pool = pool
        self._started: dict[str, Future[Console]] = {}

    def path(self, platform: str, arch: str) -> Path:
        return next(self.directory.glob(f"*-{platform}.{arch}.*"))

    def start(self, name: str, machine: Machine, image: Path, sector: int = 512) -> None:
        if not machine.missing():
            self._started[name] = self._pool.submit(start, machine, image, sector)

    def console(self, name: str) -> Console:
        return self._started[name].result()


@pytest.fixture(scope="module")
def store(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("losetup", "qemu-img", root=True)
    store = tmp_path_factory.mktemp("boot") / "store"
    fine("build", "dehydrate", *bootable_release(), store, "--arch", "all", "--level", "1", "--progress", "none")
    return store


@pytest.fixture(scope="module")
def images(store: Path) -> Iterator[Images]:
    directory = store.with_name("images")
    directory.mkdir()
    fine("rehydrate", directory, "--all", "--arch", "all", "--store", store, "--progress", "none")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = Images(directory, pool)
        yield found
    for used in (found.directory, found.changed):
        shutil.rmtree(used)  # half a gigabyte


@pytest.fixture(scope="module")
def stale(images: Images) -> Path:
    """Openstack's image for s390x as it once was: metal's with another boot loader entry, and zipl not re-run."""
    image = images.changed / "stale-openstack.s390x.raw"
    subprocess.run(["cp", "--sparse=always", images.path("metal", "s390x"), image], check=True)
    mount = images.changed / "boot"
    mount.mkdir()
    with loop_device(image, BOOT_START["s390x"], BOOT_SIZE) as device:
        subprocess.run(["mount", device, mount], check=True)
        try:
            (entry,) = (mount / "loader/entries").glob("*.conf")
            text = entry.read_text()
            assert f"{ID}metal" in text
            entry.write_text(text.replace(f"{ID}metal", f"{ID}openstack"))
        finally:
            subprocess.run(["umount", mount], check=True)
    return image


@pytest.fixture(scope="module")
def damaged(images: Images) -> dict[str, Path]:
    """The image of each damage: openstack's with the byte flipped."""
    found = {}
    for number, (name, damage) in enumerate(DAMAGES.items()):
        arch = BY_NAME[damage.machine].arch
        image = found[name] = images.changed / f"damage{number}-openstack.{arch}.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", images.path("openstack", arch), image], check=True)
        with image.open("r+b") as stream:
            at = damage.offset(image)
            stream.seek(at)
            (old,) = stream.read(1)
            stream.seek(at)
            stream.write(bytes([old ^ 0x10]))
    return found


@pytest.fixture(scope="module")
def synthesized(images: Images, store: Path) -> dict[str, Path]:
    """By machine, the image of a platform that the release does not have, with an argument and of another size."""
    found = {}
    for name, suffix in SYNTHESIZED.items():
        arch = BY_NAME[name].arch
        words = ["--arch", arch, "--format", suffix, "--size", "1536M", "--kargs", WISHED]
        fine("synthesize", "new", images.changed, *words, "--store", store)
        found[name] = next(images.changed.glob(f"*-new.{arch}.{suffix}"))
    return found


@pytest.fixture(scope="module")
def started(images: Images, stale: Path, damaged: dict[str, Path], synthesized: dict[str, Path]) -> Images:
    """All guests on their way, as far as they can be emulated here."""
    for machine in MACHINES:
        images.start(machine.name, machine, images.path("openstack", machine.arch))
    for name, damage in DAMAGES.items():
        images.start(name, BY_NAME[damage.machine], damaged[name])
    for name, image in synthesized.items():
        images.start(f"synthesized {name}", BY_NAME[name], image)
    images.start("stale", ZIPL, stale)
    images.start("metal4k", ZIPL, images.path("metal4k", "s390x"), LARGE_SECTOR)
    return images


@pytest.fixture
def console(need: Callable[..., None], request: pytest.FixtureRequest) -> Callable[[str, Machine], Console]:
    """Return a function that waits for a guest; skips the test where its machine can't be emulated."""

    def wait(name: str, machine: Machine) -> Console:
        need(*machine.needed)
        found: Images = request.getfixturevalue("started")
        return found.console(name)

    return wait


def ids(console: Console) -> list[str]:
    assert console.command_line is not None, console.tail
    return [word for word in console.command_line.split() if word.startswith(ID)]


def test_they_are_told_as_edits(store: Path) -> None:
    """What boots was computed from metal's disk: on s390x without zipl."""
    with Store(store) as opened:
        found = {
            arch: [item for item in opened.manifests(arch) if item.artifact.platform == "openstack"]
            for arch in opened.architectures
        }
    assert set(found) == {machine.arch for machine in MACHINES}
    assert [item.rung for (item,) in found.values()] == [Rung.EDITS] * len(found)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_rehydrated_image_boots(console: Callable[[str, Machine], Console], name: str) -> None:
    found = console(name, BY_NAME[name])
    assert ids(found) == [f"{ID}openstack"]
    assert "ignition.firstboot" in (found.command_line or "").split()


@pytest.mark.parametrize("name", SYNTHESIZED)
def test_a_synthesized_image_boots(
    console: Callable[[str, Machine], Console], synthesized: dict[str, Path], name: str
) -> None:
    found = console(f"synthesized {name}", BY_NAME[name])
    assert ids(found) == [f"{ID}new"]
    assert {WISHED, "ignition.firstboot"} <= set((found.command_line or "").split())
    assert errors(synthesized[name]) == {}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_check_names_does_not_boot(
    console: Callable[[str, Machine], Console], damaged: dict[str, Path], name: str
) -> None:
    damage = DAMAGES[name]
    assert damage.expected in errors(damaged[name])
    found = console(name, BY_NAME[damage.machine])
    assert found.failure, found.tail
    assert damage.said in found.tail


def test_a_stale_bootmap_boots_as_the_old_platform(
    console: Callable[[str, Machine], Console], images: Images, stale: Path
) -> None:
    assert ids(console("stale", ZIPL)) == [f"{ID}metal"]
    assert errors(images.path("metal", "s390x")) == {}
    found = errors(stale)
    assert set(found) == {Check.PARMLINE}
    assert f"-{ID}openstack +{ID}metal" in found[Check.PARMLINE]


def test_metal4k_does_not_boot_as_it_is_built(console: Callable[[str, Machine], Console], images: Images) -> None:
    found = console("metal4k", ZIPL)
    assert "No zIPL magic in PT" in found.failure, found.tail
    assert set(errors(images.path("metal4k", "s390x"))) == {Check.BOOT_BLOCK_SIZE}


def errors(image: Path) -> dict[Check, str]:
    return {item.check: item.text for item in check(image).findings if item.level is Level.ERROR}


def test_check_calls_what_boots_healthy(images: Images) -> None:
    for arch in dict.fromkeys(machine.arch for machine in MACHINES):
        assert errors(images.path("openstack", arch)) == {}, arch


# -- the script


def test_the_script_compares_check_with_the_machine(
    need: Callable[..., None], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need(*ZIPL.needed)
    assert boot_test([str(store), "--arch", "s390x", "--disk", "openstack", "--disk", "metal4k"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("OK")
    assert "metal4k.s390x.raw: s390x ccw, did not boot as metal: ! No zIPL magic in PT !" in first
    assert first.endswith("check: unhealthy")
    assert "openstack.s390x.qcow2: s390x ccw, booted as openstack" in second
    assert last == "2 of 2 as check says"


@pytest.mark.parametrize(
    ("printed", "healthy", "agrees"),
    [
        (b"CMDLINE: rw ignition.platform.id=aws\r\n", True, True),
        (b"CMDLINE: rw ignition.platform.id=metal\r\n", True, False),
        (b"[ 0.1] Kernel command line: ignition.platform.id=aws ro\r\n", False, False),
        (b"error: no such device: boot.\r\n\r\ngrub> ", False, True),
        (b"", True, False),
    ],
)
def test_verdicts(printed: bytes, healthy: bool, agrees: bool) -> None:
    trial = Trial("a.raw", healthy, Console(MACHINES[0], printed, 1.0), "aws")
    assert trial.agrees is agrees
    assert trial.line().startswith("OK " if agrees else "WRONG ")


def test_the_script_refuses_what_it_can_not_start(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert boot_test([str(tmp_path)]) == 2
    assert boot_test([str(store), "--disk", "aws"]) == 2
    assert "no artifact 'aws'" in capsys.readouterr().err


def test_emulators_and_firmware_are_listed() -> None:
    for machine in MACHINES:
        for program in machine.needed:
            assert program in PACKAGES
