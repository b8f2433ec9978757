"""Replaying edits with a real file system driver, then settling every sector.

The files that the manifest names are written in the virtual machine, on an overlay over the base disk. A driver alone
can't give the release's bytes: times, inode generations and places are its own. So each sector that it touched or that
the edits change is settled: it keeps what the driver wrote where that is right, else it gets the recorded bytes. The
result is the same as that of the direct engine; the account tells how much of it the driver made by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from rehydrator.disk.extents import Extent, chunks, merge
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import Padded, Source
from rehydrator.edits.grow import Grow
from rehydrator.edits.replay import BlobReader
from rehydrator.edits.table import Edit
from rehydrator.edits.zipl import Zipl
from rehydrator.engines.direct import edited_disk
from rehydrator.engines.guestfs.bindings import Handle
from rehydrator.engines.guestfs.files import Written, written_files
from rehydrator.engines.guestfs.machine import DEVICE, Machine
from rehydrator.engines.guestfs.native_zipl import NativeZipl, ZiplAccount, zipl_account
from rehydrator.errors import UnsupportedError
from rehydrator.manifest.schema import EditedDisk

SECTOR = 512
_MAX_WRITE = 1 << 20  # libguestfs takes up to 4 MiB in one message


class Settlement(msgspec.Struct, frozen=True):
    """What became of the sectors of one disk.

    ``made``: differ from the base and came out right from the driver. ``settled``: differ from the base and were put
    right. ``restored``: touched by the driver, but not changed by the edits. ``zipl``: where the image's own was run.
    """

    files: int = 0
    made: int = 0
    settled: int = 0
    restored: int = 0
    zipl: ZiplAccount | None = None

    def describe(self) -> str:
        """Tell the account in one line."""
        text = f"{self.made} of {self.made + self.settled} sectors made by the driver, {self.settled} settled"
        text += f", {self.restored} restored" if self.restored else ""
        return text + (f"; {self.zipl.describe()}" if self.zipl else "")


class GuestfsEngine:
    """Replays edits in ``machine``, whose drive must be as large as the largest disk; ``report`` gets each account.

    ``zipl`` runs the zipl of s390x images; without it only the model writes their bootmaps.
    """

    def __init__(
        self, machine: Machine, size: int, report: Callable[[Settlement], None], zipl: NativeZipl | None = None
    ) -> None:
        self._machine = machine
        self._size = size
        self._report = report
        self._zipl = zipl

    def edited_disk(self, base: Source, body: EditedDisk, blobs: BlobReader) -> Overlay:
        """Replay the edits of a body over its base disk, as :func:`rehydrator.engines.direct.edited_disk` does."""
        target = edited_disk(base, body, blobs)
        if not body.edits:
            return target
        if target.size > self._size:
            raise UnsupportedError("the disk is larger than the machine's drive", expected=self._size)
        files = list(written_files(base, body.edits, blobs))
        driven = self._machine.insert(base)
        _write_all(self._machine, files)
        wrote = self._run_zipl(body, base, driven, target)
        settled, account = settle(Padded(base, target.size), driven, target)
        self._report(msgspec.structs.replace(account, files=len(files), zipl=wrote))
        return settled

    def _run_zipl(self, body: EditedDisk, base: Source, driven: Source, target: Source) -> ZiplAccount | None:
        edit = next((edit for edit in body.edits if isinstance(edit, Zipl)), None)
        if self._zipl is None or edit is None:
            return None
        self._zipl.run(edit, base, target)
        return zipl_account(edit, driven, target)


def driven_disk(machine: Machine, base: Source, body: EditedDisk, blobs: BlobReader) -> Overlay:
    """Return what a driver makes of ``base`` when it writes the files that the edits name; nothing is settled.

    What only the model of zipl can write comes on top.
    """
    grown = edited_disk(base, msgspec.structs.replace(body, edits=_of(body, Grow)), blobs)
    driven = machine.insert(grown)
    _write_all(machine, list(written_files(base, body.edits, blobs)))
    return edited_disk(driven, msgspec.structs.replace(body, edits=_of(body, Zipl)), blobs)


def _of(body: EditedDisk, kind: type[Edit]) -> list[Edit]:
    return [edit for edit in body.edits if isinstance(edit, kind)]


def _write_all(machine: Machine, files: Sequence[Written]) -> None:
    for number in dict.fromkeys(file.number for file in files):
        machine.call(partial(_write, number, [file for file in files if file.number == number]))


def _write(number: int, files: Sequence[Written], handle: Handle) -> None:
    """Write files in place: one that is cut to nothing first would get other blocks than those it has."""
    handle.mount(f"{DEVICE}{number}", "/")
    for file in files:
        at = 0
        while at < len(file.content):
            at += handle.pwrite(file.path, file.content[at : at + _MAX_WRITE], at)
        handle.truncate_size(file.path, len(file.content))
    handle.umount_all()


def settle(base: Source, driven: Overlay, target: Overlay) -> tuple[Overlay, Settlement]:
    """Return what the driver made of ``base`` with each touched or recorded sector put right, and the account."""
    result = Overlay(base)
    made = settled = restored = 0
    touched = merge(sorted(_sectors(extent, target.size) for extent in (*driven.patched, *target.patched)))
    for piece in chunks(touched):
        before, right, found = (bytes(disk.read(*piece)) for disk in (base, target, driven))
        for at in range(0, piece.length, SECTOR):
            old, new, got = (data[at : at + SECTOR] for data in (before, right, found))
            if got == new:
                made += new != old
            elif new == old:
                restored += 1
            else:
                settled += 1
            if new != old:
                result.write(piece.offset + at, got if got == new else new)
    return result, Settlement(made=made, settled=settled, restored=restored)


def _sectors(extent: Extent, size: int) -> Extent:
    start = extent.offset - extent.offset % SECTOR
    end = min(extent.end + -extent.end % SECTOR, size)
    return Extent(start, max(end - start, 0))
