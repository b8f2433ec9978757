"""The options that choose what replays edits."""

from __future__ import annotations

from pathlib import Path

import click

from rehydrator.engines.choice import EngineName, ZiplName

engine_option = click.option(
    "--engine",
    type=click.Choice([name.value for name in EngineName]),
    default=EngineName.DIRECT.value,
    show_default=True,
    callback=lambda _context, _option, value: EngineName(value),
    help="What replays the edits. 'guestfs' has files written by a kernel in a virtual machine, then settles the rest.",
)

zipl_option = click.option(
    "--zipl",
    type=click.Choice([name.value for name in ZiplName]),
    default=ZiplName.MODEL.value,
    show_default=True,
    callback=lambda _context, _option, value: ZiplName(value),
    help="What makes s390x disks bootable. 'native' runs the image's own zipl in the virtual machine of guestfs.",
)

appliance_option = click.option(
    "--appliance",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The directory of a fixed libguestfs appliance for what needs a virtual machine.",
)
