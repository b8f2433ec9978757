"""The packages of the system that this program runs on, out of its package manager's database.

Sources: deb-control(5) and dpkg(1) of ``/var/lib/dpkg/status``, os-release(5) of the system's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from rehydrator.errors import UnsupportedError

_DPKG = Path("var/lib/dpkg/status")
_RPM = (Path("usr/lib/sysimage/rpm"), Path("var/lib/rpm"))
_OS_RELEASE = (Path("etc/os-release"), Path("usr/lib/os-release"))


class SystemPackage(msgspec.Struct, frozen=True, order=True):
    """An installed package, in the words of its control file."""

    name: str
    architecture: str
    version: str


class System(msgspec.Struct, frozen=True):
    """A system by its ``ID`` and ``VERSION_ID``, which some lack, and its packages in the order of their names."""

    name: str
    version: str
    packages: list[SystemPackage]


def installed_system(root: Path = Path("/")) -> System:
    """Return what is installed below ``root``, as dpkg tells it.

    Raises UnsupportedError where there is no database of dpkg, or it can't be read; that of rpm is named.
    """
    path = root / _DPKG
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        rpm = next((root / item for item in _RPM if (root / item).is_dir()), None)
        if rpm:
            raise UnsupportedError("rpm's database of installed packages is not read", path=rpm) from None
        raise UnsupportedError("there is no database of installed packages", path=path) from None
    except OSError as error:
        raise UnsupportedError(f"cannot be read: {error.strerror}", path=path) from error
    packages = sorted(_packages(text, path))
    release = _os_release(root)
    return System(release.get("ID", "linux"), release.get("VERSION_ID", ""), packages)


def _packages(text: str, path: Path) -> Iterator[SystemPackage]:
    """Yield the installed packages of a status file; those that were removed or are half installed are left out."""
    for paragraph in text.split("\n\n"):
        fields = dict(_fields(paragraph))
        if fields.get("Status", "").split()[2:] != ["installed"]:
            continue
        try:
            yield SystemPackage(fields["Package"], fields["Architecture"], fields["Version"])
        except KeyError as error:
            raise UnsupportedError(f"an installed package has no {error.args[0]}", path=path) from None


def _fields(paragraph: str) -> Iterator[tuple[str, str]]:
    """Yield the names and first lines of the fields; lines that begin with a blank continue them."""
    for line in paragraph.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            yield name, value.strip()


def _os_release(root: Path) -> dict[str, str]:
    """Return the settings of the system's name; none where it has no such file."""
    for path in _OS_RELEASE:
        try:
            lines = (root / path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if not line.startswith("#"))
        return {name: value.strip("\"'") for name, equals, value in pairs if equals}
    return {}
