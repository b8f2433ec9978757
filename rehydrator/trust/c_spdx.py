"""Lists of software, with the specification's field names.

Source: SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/) and its JSON schema.
"""

from __future__ import annotations

import enum

import msgspec

VERSION = "SPDX-2.3"
DATA_LICENSE = "CC0-1.0"
DOCUMENT_ID = "SPDXRef-DOCUMENT"
NOASSERTION = "NOASSERTION"
_NAMES = {"spdx_id": "SPDXID", "spdx_version": "spdxVersion", "data_license": "dataLicense"}


class ExternalRef(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A name of the package elsewhere."""

    reference_category: str
    reference_type: str
    reference_locator: str


class Purpose(enum.StrEnum):
    """What a package is for, of the words of the specification those that are used."""

    OPERATING_SYSTEM = "OPERATING-SYSTEM"


class Package(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "spdx_id": "SPDXID",
        "version_info": "versionInfo",
        "download_location": "downloadLocation",
        "files_analyzed": "filesAnalyzed",
        "license_concluded": "licenseConcluded",
        "license_declared": "licenseDeclared",
        "copyright_text": "copyrightText",
        "external_refs": "externalRefs",
        "primary_package_purpose": "primaryPackagePurpose",
    },
):
    """A package of software."""

    name: str
    spdx_id: str
    version_info: str
    download_location: str = NOASSERTION
    files_analyzed: bool = False
    license_concluded: str = NOASSERTION
    license_declared: str = NOASSERTION
    copyright_text: str = NOASSERTION
    external_refs: list[ExternalRef] = []
    primary_package_purpose: Purpose | msgspec.UnsetType = msgspec.UNSET


class Relationship(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How two elements belong together, in a word of the specification."""

    spdx_element_id: str
    relationship_type: str
    related_spdx_element: str


class CreationInfo(msgspec.Struct, frozen=True, kw_only=True):
    """When and by what the document was made; ``created`` is in UTC, in the form of RFC 3339."""

    created: str
    creators: list[str]


class Document(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename=_NAMES | {"document_namespace": "documentNamespace", "creation_info": "creationInfo"},
):
    """The whole list."""

    spdx_version: str = VERSION
    data_license: str = DATA_LICENSE
    spdx_id: str = DOCUMENT_ID
    name: str
    document_namespace: str
    creation_info: CreationInfo
    packages: list[Package]
    relationships: list[Relationship]
