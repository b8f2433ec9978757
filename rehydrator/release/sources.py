"""Where the stream metadata of named streams is.

docs/inputs.md has the same table; a test keeps the two together. A file of the same form as :data:`SOURCES`, in JSON,
named by ``--sources`` or ``$REHYDRATOR_SOURCES``, is looked into first.

Sources: https://docs.fedoraproject.org/en-US/fedora-coreos/stream-metadata/ and
https://github.com/openshift/installer/blob/main/docs/user/overview.md (the files in its ``data/data``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rehydrator.errors import InputError, UsageError
from rehydrator.manifest.text import decode
from rehydrator.release.document import read_document

_INSTALLER = "https://raw.githubusercontent.com/openshift/installer/release-{}/data/data"

# Beginning of a name -> addresses, where {} stands for the rest of the name. The first that a server has is taken.
SOURCES: dict[str, list[str]] = {
    "fcos-": ["https://builds.coreos.fedoraproject.org/streams/{}.json"],
    "rhcos-": [
        f"{_INSTALLER}/coreos/rhcos.json",
        f"{_INSTALLER}/coreos/coreos-rhel-9.json",
        f"{_INSTALLER}/rhcos-stream.json",
    ],
    "scos-": [f"{_INSTALLER}/coreos/scos.json"],
}
_PLACE = "{}"


def read_sources(path: Path) -> dict[str, list[str]]:
    """Read a table of sources from a JSON file."""
    table = decode(read_document(path), dict[str, list[str]], path)
    for name, addresses in table.items():
        if not name or not addresses:
            raise InputError("a source has no name or no address", path=path, actual=repr(name))
    return table


def addresses_of(stream: str, sources: Mapping[str, list[str]]) -> list[str]:
    """Return the addresses of a named stream. Raises UsageError for a name that no source has."""
    for table in (sources, SOURCES):
        for beginning in sorted(table, key=len, reverse=True):
            rest = stream.removeprefix(beginning)
            if stream.startswith(beginning) and (rest or not any(_PLACE in item for item in table[beginning])):
                return [item.replace(_PLACE, _plain(rest, stream)) for item in table[beginning]]
    known = ", ".join(f"{name}…" for name in [*sources, *SOURCES])
    raise UsageError(
        "is no stream that is known, no address and no file", actual=repr(stream), hint=f"Names begin with {known}"
    )


def _plain(rest: str, stream: str) -> str:
    """Return the rest of a name, which must not lead elsewhere on the server."""
    if not all(char.isascii() and (char.isalnum() or char in ".-_") for char in rest) or ".." in rest:
        raise UsageError("is no name of a stream", actual=repr(stream))
    return rest
