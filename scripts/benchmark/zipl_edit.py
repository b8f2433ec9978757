"""How long the bootmap of an s390x disk with a large initramfs takes to be written again."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

from .context import ROOT, Bench, remove
from .process import run
from .report import Column, Report, Table, Target

_SECTOR = 512
_BOOT_START, _BOOT_SIZE = 1 << 20, 384 << 20
_KERNEL_SIZE, _RAMDISK_SIZE = 14 << 20, 100 << 20
_MILLISECONDS = 50
_ENTRY = """title Benchmark
version 1
options rw ignition.platform.id=metal
linux /vmlinuz
initrd /initrd
"""
_SCRIPT = Path(__file__).with_name("zipl_once.py")
_RELEASE = ROOT / "fixtures" / "s390x"


def measure(bench: Bench, report: Report) -> None:
    """Time the edit in new processes, on a disk that gets the parts of a bootmap which real zipl wrote."""
    (metal,) = _RELEASE.rglob("*-metal.s390x.raw.xz")
    image = _image(bench)
    command = [bench.python, str(_SCRIPT), str(image), str(metal)]
    found = [json.loads(run(command, env=bench.environment).output) for _ in range(bench.settings.runs + 1)][1:]
    times = [item["seconds"] * 1000 for item in found]
    row = {
        "what": f"zipl edit, initramfs of {_RAMDISK_SIZE >> 20} MiB in {found[0]['runs']} runs of blocks",
        "runs": len(times),
        "median": statistics.median(times),
        "most": max(times),
        "bootmap": found[0]["bootmap"],
    }
    columns = (
        Column("what", "measurement"),
        Column("runs", "runs"),
        Column("median", "ms", "seconds"),
        Column("most", "max", "seconds"),
        Column("bootmap", "bytes of bootmap", "bytes"),
    )
    report.tables.append(Table("zipl", "Replay of the zipl edit, in milliseconds", columns, [row]))
    report.targets.append(Target("zipl edit for an initramfs of 100 MiB", _MILLISECONDS, max(times), "ms"))
    remove(image)


def _image(bench: Bench) -> Path:
    """Make a disk with a boot partition, of blocks of 1 KiB as the image builder makes them."""
    tree, image = bench.place("zipl"), bench.place("zipl.img")
    (tree / "loader/entries").mkdir(parents=True)
    (tree / "loader/entries/test.conf").write_text(_ENTRY)
    (tree / "bootmap").write_bytes(b"\1" * (64 << 10))
    for name, size in (("vmlinuz", _KERNEL_SIZE), ("initrd", _RAMDISK_SIZE)):
        (tree / name).write_bytes(os.urandom(size))
    with image.open("wb") as stream:
        stream.truncate(_BOOT_START + _BOOT_SIZE + (1 << 20))
    table = f"label: gpt\n3: start={_BOOT_START // _SECTOR}, size={_BOOT_SIZE // _SECTOR}, name=boot\n"
    run(["printf", "%s", table], ["sfdisk", "--quiet", str(image)])
    run(["mke2fs", "-q", "-t", "ext4", "-b", "1024", "-d", str(tree), "-E", f"offset={_BOOT_START}", str(image),
         str(_BOOT_SIZE >> 10)])  # fmt: skip
    remove(tree)
    return image
