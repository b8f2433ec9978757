"""Choosing what replays edits: the direct engine, or the file system drivers of a real kernel."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from rehydrator.engines.direct import Engine, body_source, edited_disk
from rehydrator.errors import UsageError
from rehydrator.manifest.schema import EditedDisk, Manifest
from rehydrator.progress import Progress
from rehydrator.store.depot import Depot


class EngineName(enum.StrEnum):
    """The engines; all of them give the same bytes."""

    DIRECT = "direct"
    GUESTFS = "guestfs"


class ZiplName(enum.StrEnum):
    """What makes s390x disks bootable."""

    MODEL = "model"
    NATIVE = "native"


class EngineChoice(msgspec.Struct, frozen=True):
    """What was asked for; ``appliance`` is the directory of a fixed appliance, None for libguestfs's own."""

    name: EngineName = EngineName.DIRECT
    zipl: ZiplName = ZiplName.MODEL
    appliance: Path | None = None


@contextmanager
def opened(choice: EngineChoice, manifests: Sequence[Manifest], depot: Depot, progress: Progress) -> Iterator[Engine]:
    """Give an engine for the artifacts of ``manifests``; a virtual machine is started once for all of them.

    Raises UsageError for a choice that makes no sense.
    """
    if choice.name is EngineName.DIRECT:
        if choice.zipl is ZiplName.NATIVE:
            raise UsageError("the direct engine runs no program of an image", hint="Add '--engine guestfs'")
        yield edited_disk
        return
    driven = [item for item in manifests if isinstance(item.body, EditedDisk) and item.body.edits]
    for item in manifests:
        if item not in driven:
            progress.say(f"{item.shipped.name}: {_why_not(item)}, so that no driver makes any of it")
    if not driven:
        yield edited_disk
        return
    from rehydrator.engines.guestfs.engine import GuestfsEngine  # noqa: PLC0415 - most runs need none of it
    from rehydrator.engines.guestfs.machine import Machine  # noqa: PLC0415
    from rehydrator.engines.guestfs.native_zipl import NativeZipl  # noqa: PLC0415

    size = max(body_source(item, depot).size for item in driven)
    with Machine(size, progress.say, appliance=choice.appliance, check=progress.check) as machine:
        zipl = NativeZipl(machine) if choice.zipl is ZiplName.NATIVE else None
        yield GuestfsEngine(machine, size, lambda account: progress.say(account.describe()), zipl).edited_disk


def _why_not(manifest: Manifest) -> str:
    """Tell why a kernel has nothing to do for an artifact."""
    if isinstance(manifest.body, EditedDisk):
        return "the disk is its base's without edits"
    return f"{manifest.rung}, not told by edits"


@contextmanager
def writing(name: EngineName, size: int, say: Callable[[str], None], appliance: Path | None = None) -> Iterator[Engine]:
    """Give an engine that makes new disks of up to ``size`` bytes, with nothing recorded that they must be."""
    if name is EngineName.DIRECT:
        yield edited_disk
        return
    from rehydrator.engines.guestfs.engine import driven_disk  # noqa: PLC0415 - most runs need none of it
    from rehydrator.engines.guestfs.machine import Machine  # noqa: PLC0415

    with Machine(size, say, appliance=appliance) as machine:
        yield partial(driven_disk, machine)
