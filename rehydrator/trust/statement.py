"""What a store gives back and what it was made of, as one document that can be signed."""

from __future__ import annotations

from pathlib import Path

from rehydrator import __version__
from rehydrator.manifest.schema import Manifest
from rehydrator.oci.c_oci import Descriptor
from rehydrator.oci.digest import sha256_of
from rehydrator.release.stream import list_stream, stream_facts
from rehydrator.store.layout import INDEX, STREAM
from rehydrator.store.reader import Store
from rehydrator.trust.c_intoto import (
    BuildDefinition,
    Builder,
    BuildMetadata,
    Provenance,
    ResourceDescriptor,
    RunDetails,
    Statement,
)

BUILD_TYPE = "urn:rehydrator:dehydrate:1"
BUILDER = "urn:rehydrator"
_SHA256 = "sha256"


def statement_of(store: Store, finished: str, image: Descriptor | None = None) -> Statement:
    """Return the statement of a store, and of the image that it was put into.

    Its subjects are every file that the store gives back, the store's index and the image; what it was made of are the
    files as shipped and the stream metadata. ``finished`` is the time that it states, in the form of RFC 3339.
    """
    manifests = [item for arch in store.architectures for item in store.manifests(arch)]
    return Statement(
        subject=[
            *(ResourceDescriptor(name=name, digest={_SHA256: sha256}) for name, sha256 in _given_back(manifests)),
            ResourceDescriptor(name=INDEX, digest={_SHA256: store.index_file.sha256}),
            *([_image(image)] if image is not None else []),
        ],
        predicate=Provenance(
            build_definition=BuildDefinition(
                build_type=BUILD_TYPE,
                external_parameters=_parameters(store),
                resolved_dependencies=_dependencies(store, manifests),
            ),
            run_details=RunDetails(
                builder=Builder(id=BUILDER, version={"rehydrator": __version__}),
                metadata=BuildMetadata(finished_on=finished),
            ),
        ),
    )


def _given_back(manifests: list[Manifest]) -> list[tuple[str, str]]:
    """Return name and sha256 of every file that can be had: uncompressed, and as shipped where that is exact."""
    files = [item.content for item in manifests] + [item.shipped for item in manifests if item.exact]
    return sorted({(file.name, file.sha256) for file in files})


def _image(image: Descriptor) -> ResourceDescriptor:
    return ResourceDescriptor(name="image", digest={_SHA256: sha256_of(image.digest, "image")})


def _parameters(store: Store) -> dict[str, str | list[str]]:
    parameters: dict[str, str | list[str]] = {
        "architectures": store.architectures,
        "releases": sorted({store.arch(arch).release for arch in store.architectures}),
    }
    if store.index.stream is not None:
        parameters["stream"] = stream_facts(store.stream_metadata(), Path(STREAM)).stream
    return parameters


def _dependencies(store: Store, manifests: list[Manifest]) -> list[ResourceDescriptor]:
    """Return the files that were dehydrated, with their addresses, and the stream metadata."""
    stream = store.index.stream
    listed = list_stream(store.stream_metadata(), store.name / STREAM) if stream is not None else []
    addresses = {item.sha256: item.location for item in listed}
    files = [
        ResourceDescriptor(
            name=item.shipped.name,
            uri=addresses.get(item.shipped.sha256, ""),
            digest={_SHA256: item.shipped.sha256},
        )
        for item in manifests
    ]
    return [*files, *([ResourceDescriptor(name=STREAM, digest={_SHA256: stream.sha256})] if stream else [])]
