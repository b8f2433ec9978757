"""Run by the benchmark with rehydrator's own Python: ``zipl_once.py IMAGE METAL``.

IMAGE is a disk whose boot partition has a boot loader entry, kernel, initramfs and room for a bootmap; METAL is one
that zipl made bootable. IMAGE gets, in memory, the bootmap that zipl would write; then the time of one zipl edit with
another command line is taken. Prints it with a few numbers as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from rehydrator.boot.zipl.build import build
from rehydrator.boot.zipl.c_zipl import BootRecord
from rehydrator.boot.zipl.installed import bootmap_inode, component_spans, file_blocks, read_installed
from rehydrator.boot.zipl.parts import Component, Parts, Referred, Role
from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import FileSource, Source, Window
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.replay import Replay
from rehydrator.edits.zipl import Zipl
from rehydrator.explain.peel import opened
from rehydrator.fs.ext4.ext4 import Ext4

_BOOT = "p3 boot"
_FILES = {Role.KERNEL: "/vmlinuz", Role.RAMDISK: "/initrd"}


def _boot(disk: Source) -> Ext4:
    return Ext4(next(Window(disk, *region.extent) for region in read_table(disk).regions if region.name == _BOOT))


def _parts(metal: Path) -> Parts:
    with opened(metal) as side:
        return read_installed(bytes(side.disk.read(0, BootRecord.SIZE)), _boot(side.disk)).parts


def _with_files(parts: Parts, fs: Ext4) -> Parts:
    """Let kernel and ramdisk be the files of another boot partition."""

    def changed(item: Component) -> Component:
        inode = fs.lookup(_FILES[item.role]) if isinstance(item, Referred) and item.role in _FILES else None
        if inode is None or not isinstance(item, Referred):
            return item
        return replace(item, spans=tuple(component_spans(fs, inode, parts)))

    return replace(parts, components=tuple(changed(item) for item in parts.components))


def main(image: str, metal: str) -> None:
    """Install a bootmap, make the edit and print its time."""
    with FileSource(Path(image)) as disk:
        fs = _boot(disk)
        inode = bootmap_inode(fs)
        if inode is None:
            raise SystemExit("the boot partition has no bootmap")
        parts = _with_files(_parts(Path(metal)), fs)
        built = build(parts, file_blocks(fs, inode))
        installing = Replay(disk)
        installing.state(Ext4State, _BOOT).put_content(inode, built.bootmap)
        installing.disk.write(0, built.boot_record)
        replay = Replay(installing.disk)
        begun = time.perf_counter()
        Zipl(_BOOT, append="ignition.firstboot benchmark").apply(replay)
        taken = time.perf_counter() - begun
        ramdisk = parts.find(Role.RAMDISK)
        runs = len(ramdisk.spans) if isinstance(ramdisk, Referred) else 0
        print(json.dumps({"seconds": taken, "bootmap": len(built.bootmap), "runs": runs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
