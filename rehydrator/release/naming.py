"""What the name of a released file tells: ``NAME-RELEASE-PLATFORM.ARCH.SUFFIX``.

Source: coreos-assembler ``src/cosalib/cmdlib.py`` and the names in stream metadata.
"""

from __future__ import annotations

import re

import msgspec

_NAME = re.compile(r"-([a-z][a-z0-9]*(?:-secex)?)\.(x86_64|aarch64|ppc64le|s390x|riscv64)(?:\.|$)")
# Platforms whose images say another ignition.platform.id (coreos-assembler platform.*.ipp.yaml).
_IDS = {"metal4k": "metal", "qemu-secex": "qemu"}


class FileName(msgspec.Struct, frozen=True):
    """The platform and architecture that a file's name tells, "" where it tells none."""

    platform: str = ""
    arch: str = ""


def read_name(name: str) -> FileName:
    """Take the name of a file apart."""
    found = _NAME.search(name)
    return FileName(found[1], found[2]) if found else FileName()


def platform_id(platform: str) -> str:
    """Return the ``ignition.platform.id`` of a platform's images."""
    return _IDS.get(platform, platform)
