"""What the name of a released file tells: ``NAME-RELEASE-PLATFORM.ARCH.SUFFIX``.

Source: coreos-assembler ``src/cosalib/cmdlib.py`` and the names in stream metadata.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from rehydrator.errors import InputError

_NAME = re.compile(r"-([a-z][a-z0-9]*(?:-secex)?)\.(x86_64|aarch64|ppc64le|s390x|riscv64)(?:\.|$)")
# Platforms whose images say another ignition.platform.id (coreos-assembler platform.*.ipp.yaml).
_IDS = {"metal4k": "metal", "qemu-secex": "qemu"}


_GO = {"x86_64": "amd64", "aarch64": "arm64"}  # names of architectures in OCI documents; others are the same there
_RPM = {go: arch for arch, go in _GO.items()}


def go_arch(arch: str) -> str:
    """Return the name that Go, and so OCI, has for an architecture."""
    return _GO.get(arch, arch)


def rpm_arch(name: str) -> str:
    """Return the name of an architecture that is called ``name`` in an OCI document."""
    return _RPM.get(name, name)


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


def is_plain(name: str) -> bool:
    """Tell whether a name is a plain file name that can be written into a directory.

    Hidden names are not, since they may configure other programs, nor is what would command a terminal.
    """
    return bool(name) and not name.startswith((".", "-")) and not any(c in name for c in "/\\") and name.isprintable()


def plain_name(name: str, path: Path) -> str:
    """Return a name of release metadata that can be that of a file; ``path`` is where it was read."""
    if not is_plain(name):
        raise InputError("a name in the release metadata is not a plain name", path=path, actual=repr(name[:200]))
    return name
