"""Choosing what replays edits: the direct engine, or the file system drivers of a real kernel."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rehydrator.engines.direct import Engine, body_source, edited_disk
from rehydrator.manifest.schema import EditedDisk, Manifest
from rehydrator.progress import Progress
from rehydrator.store.depot import Depot


class EngineName(enum.StrEnum):
    """The engines; all of them give the same bytes."""

    DIRECT = "direct"
    GUESTFS = "guestfs"


@contextmanager
def opened(
    name: EngineName, manifests: Sequence[Manifest], depot: Depot, progress: Progress, appliance: Path | None = None
) -> Iterator[Engine]:
    """Give an engine for the artifacts of ``manifests``; a virtual machine is started once for all of them."""
    edited = [item for item in manifests if isinstance(item.body, EditedDisk) and item.body.edits]
    if name is EngineName.DIRECT or not edited:
        yield edited_disk
        return
    from rehydrator.engines.guestfs.engine import GuestfsEngine  # noqa: PLC0415 - most runs need none of it
    from rehydrator.engines.guestfs.machine import Machine  # noqa: PLC0415

    size = max(body_source(item, depot).size for item in edited)
    with Machine(size, progress.say, appliance=appliance) as machine:
        yield GuestfsEngine(machine, size, lambda account: progress.say(account.describe())).edited_disk


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
