"""``zipl``: the boot record and bootmap of an s390x disk, written again for other kernel arguments.

The base's own bootmap gives all parts but the command line: loader, load addresses, sectors of kernel and ramdisk,
environment block. The command line follows from the BLS entry. The result is what running zipl gives; see
:mod:`rehydrator.boot.zipl`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.boot.entries import FIRST_BOOT, command_line
from rehydrator.boot.zipl.build import build
from rehydrator.boot.zipl.c_zipl import BootRecord
from rehydrator.boot.zipl.installed import bootmap_inode, file_blocks, read_installed
from rehydrator.boot.zipl.read import has_boot_record
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.replay import Replay
from rehydrator.errors import CorruptError, StoreDamagedError
from rehydrator.fs.ext4.ext4 import Ext4


class Zipl(msgspec.Struct, tag="zipl", tag_field="op", frozen=True, omit_defaults=True):
    """zipl was run on boot partition ``partition``.

    The command line is that of the first BLS entry followed by ``append``, or ``parmline`` where that is given.
    """

    partition: str
    append: str = FIRST_BOOT
    parmline: str | None = None

    def apply(self, replay: Replay) -> None:
        """Write the bootmap into the blocks that its file has by then, and the boot record."""
        state = replay.state(Ext4State, self.partition)
        try:
            installed = read_installed(_boot_record(replay), state.before)
            text = command_line(state.now, self.append) if self.parmline is None else self.parmline
            inode = bootmap_inode(state.now)
            if text is None or inode is None:
                raise StoreDamagedError("the boot partition has no BLS entry or no bootmap", path=self.partition)
            built = build(installed.parts.with_parmline(text), file_blocks(state.now, inode))
        except CorruptError as error:
            raise StoreDamagedError(f"zipl edit can't be applied: {error}", path=self.partition) from error
        state.put_content(inode, built.bootmap)
        replay.disk.write(0, built.boot_record)

    def describe(self) -> str:
        """Say where the command line comes from."""
        if self.parmline is None:
            return f"zipl: parmline = BLS options + {self.append}"
        return f"zipl: parmline = {self.parmline}"

    def literal_bytes(self) -> int:
        """Return none: a command line is there to be read."""
        return 0


def recognise(replay: Replay, partition: str, target: Ext4, sector: bytes) -> Iterator[Zipl]:
    """Tell whether the target's bootmap is what the base's parts give; ``sector`` is the target's first one.

    The base's own bootmap must come out exactly as well: a zipl that is not understood is not trusted.
    """
    if not has_boot_record(sector):
        return
    try:
        before = read_installed(_boot_record(replay), replay.state(Ext4State, partition).before)
        after = read_installed(sector, target)
        if build(before.parts, before.file.blocks).bootmap != before.file.content:
            return
        text = after.parts.parmline
        if text is None or before.file.content == after.file.content:
            return
        built = build(before.parts.with_parmline(text), after.file.blocks)
    except CorruptError:
        return
    if built.bootmap != after.file.content or not sector.startswith(built.boot_record):
        return
    edit = Zipl(partition)
    yield edit if command_line(target, edit.append) == text else Zipl(partition, parmline=text)


def _boot_record(replay: Replay) -> bytes:
    return bytes(replay.base.read(0, min(BootRecord.SIZE, replay.base.size)))
