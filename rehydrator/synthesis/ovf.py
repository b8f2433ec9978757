"""The description in an OVA: which file is its disk, how large that is, and how large the file.

Source: DMTF DSP0243, Open Virtualization Format Specification 2.1.1, sections 7.1 and 9.1.
"""

from __future__ import annotations

import re

from rehydrator.errors import UnsupportedError

_ELEMENT = r"<(?:\w+:)?{}\b[^>]*>"
_FILE = re.compile(_ELEMENT.format("File"))
_DISK = re.compile(_ELEMENT.format("Disk"))
_ATTRIBUTE = r'(\s(?:\w+:)?{}\s*=\s*)(["\'])([^"\']*)\2'
_UNITS = re.compile(r"byte(?:\s*\*\s*2\^(\d\d?))?")


def with_disk(text: str, href: str, size: int, capacity: int) -> str:
    """Return the description of another disk: ``href`` is its file, of ``size`` bytes, ``capacity`` that of the disk.

    Raises UnsupportedError where the description does not tell of that file, or not as a disk.
    """
    files = [found[0] for found in _FILE.finditer(text) if _value(found[0], "href") == href]
    if len(files) != 1:
        raise UnsupportedError("an OVF that does not name its disk once", expected=href, actual=f"{len(files)} times")
    identity = _value(files[0], "id")
    disks = [found[0] for found in _DISK.finditer(text) if _value(found[0], "fileRef") == identity]
    if len(disks) != 1:
        raise UnsupportedError("an OVF that does not describe its disk once", actual=f"{len(disks)} times")
    text = text.replace(files[0], _with(files[0], "size", str(size)))
    units = _UNITS.fullmatch(_value(disks[0], "capacityAllocationUnits") or "byte")
    if units is None:
        raise UnsupportedError("an OVF with unknown units", expected="byte * 2^N", actual=disks[0][:200])
    capacity = -(-capacity >> int(units[1])) if units[1] else capacity
    changed = _with(disks[0], "capacity", str(capacity))
    return text.replace(disks[0], _with(changed, "populatedSize", str(size)))


def _value(element: str, attribute: str) -> str | None:
    found = re.search(_ATTRIBUTE.format(attribute), element)
    return found[3] if found else None


def _with(element: str, attribute: str, value: str) -> str:
    """Return an element with another value of an attribute, if it has that."""
    return re.sub(_ATTRIBUTE.format(attribute), lambda found: f"{found[1]}{found[2]}{value}{found[2]}", element)
