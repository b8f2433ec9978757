"""One random boot partition: real zipl installs two parmlines in turn, and both results are computed as well."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehydrator.boot.zipl.build import build
from rehydrator.boot.zipl.installed import Installed, component_spans, read_installed
from rehydrator.boot.zipl.parts import Parts, Referred, Role
from rehydrator.disk.source import FileSource, Window
from rehydrator.fs.ext4.ext4 import Ext4
from release_builder.zipl import Target, Zipl

_MIB = 1 << 20
_START = _MIB
_SIZE = 129 * _MIB
_KERNEL_HEAD = 70_000  # zipl reads the size of the parmline from the kernel's first blocks
_MAX_PARMLINE_AT = 0x10430
_LETTERS = "abcdefghij =/.-_0123456789"
_LENGTHS = (10, 200, 510, 511, 512, 513, 800)


@dataclass(frozen=True)
class Scenario:
    """What is random about a trial."""

    seed: int
    block_size: int
    sector: int
    fragmented: bool
    signed: bool
    secure: bool
    parmlines: tuple[str, str]


@dataclass(frozen=True)
class Outcome:
    """What the model got wrong, empty if nothing; and how large the segment lists were."""

    problems: tuple[str, ...]
    segments: int


def scenario(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    choice = random.Random(seed)
    block_size = choice.choice((1024, 2048, 4096))

    def text() -> str:
        return "x" + "".join(choice.choice(_LETTERS) for _ in range(choice.choice(_LENGTHS))) + "y"

    return Scenario(
        seed=seed,
        block_size=block_size,
        sector=choice.choice((512, 512, 4096)) if block_size == 4096 else 512,
        fragmented=choice.random() < 0.7,
        signed=choice.random() < 0.4,
        secure=choice.random() < 0.3,
        parmlines=(text(), text()),
    )


def run_trial(case: Scenario, zipl: Zipl, work: Path) -> Outcome:
    """Let zipl install both parmlines and compare with what is computed. Needs root: loop devices and mounts."""
    image, mount = work / "disk.img", work / "mnt"
    mount.mkdir(exist_ok=True)
    with image.open("wb") as stream:
        stream.truncate(_SIZE)
        stream.seek(510)
        stream.write(b"\x55\xaa")
    problems: list[str] = []
    with ExitStack() as stack:
        whole = stack.enter_context(_loop(image, 0))
        device = stack.enter_context(_loop(image, _START))
        _call("mkfs.ext4", "-q", "-b", str(case.block_size), device)
        with _mounted(device, mount):
            _fill(case, mount)
        target = Target(whole, case.sector, _START // case.sector)
        states: list[tuple[bytes, Installed, Ext4]] = []
        for parmline in case.parmlines:
            with _mounted(device, mount):
                zipl.run(target, mount, mount / "vmlinuz", mount / "initrd", parmline, secure=case.secure)
            copy = work / f"state{len(states)}.img"
            _call("cp", "--sparse=always", str(image), str(copy))
            states.append(_read(copy))
    problems += _compare("first", states[0], states[0][1].parts)
    problems += _compare("second", states[1], states[0][1].parts.with_parmline(case.parmlines[1]))
    problems += _check_files(states[0][1], states[0][2])
    segments = sum(len(item.spans) for item in states[0][1].parts.components if isinstance(item, Referred))
    return Outcome(tuple(problems), segments)


def _compare(name: str, state: tuple[bytes, Installed, Ext4], parts: Parts) -> Iterator[str]:
    sector, installed, _fs = state
    built = build(parts, installed.file.blocks)
    if built.bootmap != installed.file.content:
        yield f"{name} bootmap differs"
    if built.boot_record != sector[: len(built.boot_record)]:
        yield f"{name} boot record differs"


def _check_files(installed: Installed, fs: Ext4) -> Iterator[str]:
    for role, name in ((Role.KERNEL, "vmlinuz"), (Role.RAMDISK, "initrd")):
        found = installed.parts.find(role)
        inode = fs.lookup(name)
        if not isinstance(found, Referred) or inode is None:
            yield f"no {role} component in a file of its own"
        elif component_spans(fs, inode, installed.parts) != list(found.spans):
            yield f"sectors of the {role} differ"


def _read(image: Path) -> tuple[bytes, Installed, Ext4]:
    source = FileSource(image)
    fs = Ext4(Window(source, _START, _SIZE - _START))
    sector = bytes(source.read(0, 512))
    return sector, read_installed(sector, fs), fs


def _fill(case: Scenario, mount: Path) -> None:
    choice = random.Random(case.seed + 1)
    if case.fragmented:
        for number in range(400):
            (mount / f"f{number}").write_bytes(b"f" * (case.block_size * choice.randint(1, 16)))
        _call("sync", "-f", str(mount))
        for number in range(0, 400, 2):
            (mount / f"f{number}").unlink()
        _call("sync", "-f", str(mount))
    _write_sparse(mount / "vmlinuz", choice, choice.randint(70_000, 6 * _MIB), _KERNEL_HEAD, signed=case.signed)
    _write_sparse(mount / "initrd", choice, choice.randint(1000, 9 * _MIB), 0, signed=False)
    with (mount / "vmlinuz").open("r+b") as stream:
        stream.seek(_MAX_PARMLINE_AT)
        stream.write((4096).to_bytes(8, "big"))


def _write_sparse(path: Path, choice: random.Random, size: int, head: int, *, signed: bool) -> None:
    with path.open("wb") as stream:
        left = size
        while left:
            count = min(left, choice.randint(1, 200_000))
            if choice.random() < 0.2 and stream.tell() > head:
                stream.seek(count, 1)
            else:
                stream.write(choice.randbytes(count))
            left -= count
        stream.truncate(size)
        if signed:
            stream.seek(size + -size % 4096)
            signature = choice.randbytes(choice.randint(300, 1500))
            trailer = bytes((0, 0, 2, 0, 0, 0, 0, 0)) + len(signature).to_bytes(4, "big")
            stream.write(signature + trailer + b"~Module signature appended~\n")


@contextmanager
def _loop(image: Path, offset: int) -> Iterator[str]:
    device = _call("losetup", "--find", "--show", "--offset", str(offset), str(image)).strip()
    try:
        yield device
    finally:
        _call("losetup", "--detach", device)


@contextmanager
def _mounted(device: str, place: Path) -> Iterator[None]:
    _call("mount", device, str(place))
    try:
        yield
    finally:
        _call("umount", str(place))


def _call(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
