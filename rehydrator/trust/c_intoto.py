"""Statements about what was made from what, with the specifications' field names.

Sources: in-toto attestation framework 1.0 (``spec/v1/statement.md``, ``spec/v1/resource_descriptor.md``) and SLSA 1.0
(https://slsa.dev/spec/v1.0/provenance).
"""

from __future__ import annotations

import msgspec

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
_NAMES = {"type_": "_type", "predicate_type": "predicateType"}


class ResourceDescriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A thing by its digests: algorithm to hexadecimal digits."""

    name: str = ""
    uri: str = ""
    digest: dict[str, str]
    annotations: dict[str, str] = {}


class Builder(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who made it."""

    id: str
    version: dict[str, str]


class BuildMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """When; ``finished_on`` is in the form of RFC 3339."""

    finished_on: str = ""


class RunDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who made it, and when."""

    builder: Builder
    metadata: BuildMetadata


class BuildDefinition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How it was made, and of what."""

    build_type: str
    external_parameters: dict[str, str | list[str]]
    resolved_dependencies: list[ResourceDescriptor]


class Provenance(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The predicate of SLSA."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(msgspec.Struct, frozen=True, kw_only=True, rename=_NAMES):
    """What is stated, and of which things."""

    type_: str = STATEMENT_TYPE
    subject: list[ResourceDescriptor]
    predicate_type: str = PROVENANCE_TYPE
    predicate: Provenance
