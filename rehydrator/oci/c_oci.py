"""The documents of OCI images, with the specification's field names.

Source: OCI image-spec 1.1: ``descriptor.md``, ``manifest.md``, ``image-index.md``, ``config.md``, ``image-layout.md``
and ``annotations.md``; https://distribution.github.io/distribution/spec/manifest-v2-2/ for docker's types. In JSON the
names are written as there (``mediaType``, ``os.version``, ``Labels``).
"""

from __future__ import annotations

import enum

import msgspec

SCHEMA_VERSION = 2
LAYOUT_VERSION = "1.0.0"
LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
BLOBS = "blobs"


class MediaType(enum.StrEnum):
    """What a descriptor may point to, as far as this program reads or writes it."""

    INDEX = "application/vnd.oci.image.index.v1+json"
    MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    CONFIG = "application/vnd.oci.image.config.v1+json"
    LAYER = "application/vnd.oci.image.layer.v1.tar"
    LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
    EMPTY = "application/vnd.oci.empty.v1+json"


INDEXES = (MediaType.INDEX, MediaType.DOCKER_INDEX)
MANIFESTS = (MediaType.MANIFEST, MediaType.DOCKER_MANIFEST)  # their documents have the same fields
CONFIGS = (MediaType.CONFIG, MediaType.DOCKER_CONFIG)


class Annotation(enum.StrEnum):
    """Keys of annotations and labels that the specification defines."""

    REF_NAME = "org.opencontainers.image.ref.name"
    TITLE = "org.opencontainers.image.title"
    DESCRIPTION = "org.opencontainers.image.description"
    VERSION = "org.opencontainers.image.version"
    REVISION = "org.opencontainers.image.revision"
    SOURCE = "org.opencontainers.image.source"
    CREATED = "org.opencontainers.image.created"
    LICENSES = "org.opencontainers.image.licenses"


class Platform(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"os_version": "os.version", "os_features": "os.features"},
):
    """What an image of an index is for; ``architecture`` is Go's name of it."""

    architecture: str
    os: str
    os_version: str = ""
    os_features: list[str] = []
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A reference to content: its type, its digest (``sha256:`` and hexadecimal digits) and its size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: list[str] = []
    annotations: dict[str, str] = {}
    data: str = ""
    artifact_type: str = ""
    platform: Platform | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An image or artifact: its config and its layers."""

    schema_version: int = SCHEMA_VERSION
    media_type: str = MediaType.MANIFEST.value
    artifact_type: str | msgspec.UnsetType = msgspec.UNSET
    config: Descriptor
    layers: list[Descriptor]
    subject: Descriptor | msgspec.UnsetType = msgspec.UNSET
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Several images: of several platforms, or the tags of a layout."""

    schema_version: int = SCHEMA_VERSION
    media_type: str = MediaType.INDEX.value
    artifact_type: str | msgspec.UnsetType = msgspec.UNSET
    manifests: list[Descriptor]
    subject: Descriptor | msgspec.UnsetType = msgspec.UNSET
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """The layers by the digests of their uncompressed tar streams, lowest first."""

    type: str = "layers"
    diff_ids: list[str]


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a layer came to be. ``empty_layer``: the step changed no file."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class Execution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """How a container of the image is run: the object ``config`` of the config."""

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] = {}
    env: list[str] = []
    entrypoint: list[str] = []
    cmd: list[str] = []
    volumes: dict[str, dict[str, str]] = {}
    working_dir: str = ""
    labels: dict[str, str] = {}
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: dict[str, list[str] | str | int] = {}
    on_build: list[str] = []
    shell: list[str] = []


class ImageConfig(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"os_version": "os.version", "os_features": "os.features"},
):
    """An image's config. ``created`` is in the form of RFC 3339."""

    created: str = ""
    author: str = ""
    architecture: str
    os: str
    os_version: str = ""
    os_features: list[str] = []
    variant: str = ""
    config: Execution = Execution()
    rootfs: RootFS
    history: list[History] = []


class LayoutFile(msgspec.Struct, frozen=True, rename="camel"):
    """The file ``oci-layout``."""

    image_layout_version: str = LAYOUT_VERSION
