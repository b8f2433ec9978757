"""Releases as they were built in 2021: three disks made apart, and the clouds edited from the last one.

coreos-assembler's `src/create_disk.sh` of October 2021 made the disks of metal, metal4k and qemu each on an empty
image: file systems of its own, an ostree deployment with the kernel arguments of the platform, no platforms.json, no
console.cfg. `src/cosalib/qemuvariants.py` then edited copies of qemu's disk, boot loader entry only (`gf-platformid`;
on s390x zipl ran again, with a second entry in the first one's place meanwhile), and enlarged some of them afterwards.
Containers and file names are today's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .architectures import BOOT, LINUX_TYPE, ROOT, Architecture
from .platforms import Parent, Platform, Size

ERA = "2021"
ERAS = ("osbuild", ERA)
# What create_disk.sh was given for the console, by architecture.
_CONSOLE = {
    "x86_64": ("console=tty0", "console=ttyS0,115200n8"),
    "aarch64": (),
    "ppc64le": ("console=tty0", "console=hvc0,115200n8"),
    "s390x": (),
}
# The platforms that there were.
_PLATFORMS = "metal metal4k qemu aliyun aws azure azurestack digitalocean exoscale gcp ibmcloud openstack vmware vultr"


def of_era(architectures: Sequence[Architecture], era: str) -> list[Architecture]:
    """Return architectures as an era built them."""
    return [_changed(item) if era == ERA else item for item in architectures]


def _changed(architecture: Architecture) -> Architecture:
    partitions = tuple(
        replace(spec, type_guid=LINUX_TYPE) if spec.name in (BOOT, ROOT) else spec for spec in architecture.partitions
    )
    platforms = tuple(_of_2021(item) for item in architecture.platforms if item.name in _PLATFORMS.split())
    return replace(
        architecture,
        partitions=partitions,
        platforms=platforms,
        consoles=None,
        disk_arguments=_CONSOLE[architecture.name],
        random_ids=True,
    )


def _of_2021(platform: Platform) -> Platform:
    own = platform.size is Size.METAL or platform.name == "qemu"
    return replace(platform, parent=Parent.OWN if own else Parent.QEMU)
