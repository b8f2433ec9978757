"""Architectures as OCI calls them: by Go's names, where RPM's are used everywhere else.

Source: OCI image-spec 1.1 ``image-index.md`` and https://go.dev/doc/install/source#environment.
"""

from __future__ import annotations

_GO = {"x86_64": "amd64", "aarch64": "arm64"}  # the others are called the same
_RPM = {go: rpm for rpm, go in _GO.items()}


def goarch(arch: str) -> str:
    """Return Go's name of an RPM architecture."""
    return _GO.get(arch, arch)


def rpm_arch(architecture: str) -> str:
    """Return RPM's name of a Go architecture."""
    return _RPM.get(architecture, architecture)
