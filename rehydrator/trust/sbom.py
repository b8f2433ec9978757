"""The software that rehydration runs on: this program, its Python, the packages that both need, and the system."""

from __future__ import annotations

import hashlib
import platform
import re
import zlib
from collections.abc import Iterator
from importlib import metadata
from urllib.parse import quote

import msgspec

from rehydrator import __version__
from rehydrator.errors import UnsupportedError
from rehydrator.trust.c_spdx import (
    DOCUMENT_ID,
    NOASSERTION,
    CreationInfo,
    Document,
    ExternalRef,
    Package,
    Purpose,
    Relationship,
)
from rehydrator.trust.system_packages import System

_PROGRAM = "rehydrator"
_NAMESPACE = "https://spdx.org/spdxdocs"
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r"\bextra\s*==")


def runtime_sbom(created: str, system: System | None = None) -> Document:
    """Return the list; ``created`` is the time that it states, in the form of RFC 3339.

    With ``system`` it has the packages of that as well, as they are in a container image. It is a function of all this
    and of what is installed: its namespace has the digest of the rest. Raises UnsupportedError where this program is
    not installed.
    """
    names = _needed(_PROGRAM)
    if not names:
        raise UnsupportedError("this rehydrator was not installed as a package, so that nothing says what it needs")
    packages = [_distribution(name) for name in sorted(names)]
    program = next(item for item in packages if item.name == _PROGRAM)
    others = [item for item in packages if item is not program]
    others += [
        _package("python", platform.python_version(), f"pkg:generic/python@{platform.python_version()}", "Python-2.0"),
        _package("zlib", zlib.ZLIB_RUNTIME_VERSION, f"pkg:generic/zlib@{zlib.ZLIB_RUNTIME_VERSION}", "Zlib"),
    ]
    relationships = [
        _related(DOCUMENT_ID, "DESCRIBES", program.spdx_id),
        *(_related(program.spdx_id, "DEPENDS_ON", item.spdx_id) for item in others),
    ]
    if system:
        whole, parts = _system(system)
        others += [whole, *parts]
        relationships.append(_related(program.spdx_id, "DEPENDS_ON", whole.spdx_id))
        relationships += [_related(whole.spdx_id, "CONTAINS", item.spdx_id) for item in parts]
    document = Document(
        name=f"{_PROGRAM}-{__version__}",
        document_namespace="",
        creation_info=CreationInfo(created=created, creators=[f"Tool: {_PROGRAM}-{__version__}"]),
        packages=[program, *others],
        relationships=relationships,
    )
    digest = hashlib.sha256(msgspec.json.encode(document)).hexdigest()
    return msgspec.structs.replace(document, document_namespace=f"{_NAMESPACE}/{document.name}-{digest}")


def _needed(name: str) -> set[str]:
    """Return the names of the installed distributions that one needs, with itself."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = _normal(waiting.pop())
        if one not in found and _installed(one):
            found.add(one)
            waiting += _requirements(one)
    return found


def _requirements(name: str) -> Iterator[str]:
    """Yield what a distribution requires, its extras apart. What is not meant for this machine is not installed."""
    for requirement in metadata.requires(name) or []:
        _, _, marker = requirement.partition(";")
        found = _REQUIREMENT.match(requirement)
        if found and not _EXTRA.search(marker):
            yield found[1]


def _normal(name: str) -> str:
    """Return a distribution's name as it is compared (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _distribution(name: str) -> Package:
    version = metadata.version(name)
    expression = metadata.metadata(name).json.get("license_expression", NOASSERTION)
    return _package(name, version, f"pkg:pypi/{name}@{quote(version)}", str(expression))


def _system(system: System) -> tuple[Package, list[Package]]:
    """Return a system as one package, and its packages. Names of theirs are told apart from Python's."""
    locator = f"pkg:generic/{quote(system.name)}" + (f"@{quote(system.version)}" if system.version else "")
    whole = _package(system.name, system.version, locator, NOASSERTION, group="System")
    whole = msgspec.structs.replace(whole, primary_package_purpose=Purpose.OPERATING_SYSTEM)
    distribution = quote("-".join(filter(None, (system.name, system.version))))
    parts = []
    for item in system.packages:
        # Source: https://github.com/package-url/purl-spec, type deb
        name = f"pkg:deb/{quote(system.name)}/{quote(item.name)}@{quote(item.version)}"
        locator = f"{name}?arch={item.architecture}&distro={distribution}"
        group = f"System-{item.architecture}"
        parts.append(_package(item.name, item.version, locator, NOASSERTION, group=group))
    return whole, parts


def _package(name: str, version: str, locator: str, licence: str, *, group: str = "Package") -> Package:
    identifier = quote(name).replace("%", ".")  # of letters, digits, '.' and '-' only
    return Package(
        name=name,
        spdx_id=f"SPDXRef-{group}-{identifier}",
        version_info=version,
        license_declared=licence,
        external_refs=[
            ExternalRef(reference_category="PACKAGE-MANAGER", reference_type="purl", reference_locator=locator)
        ],
    )


def _related(one: str, word: str, other: str) -> Relationship:
    return Relationship(spdx_element_id=one, relationship_type=word, related_spdx_element=other)
