"""Artifacts that are told from each other: chains that end, and forged ones that don't."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from rehydrator.disk.source import BytesSource, Source
from rehydrator.edits.grow import Grow
from rehydrator.engines.direct import body_source
from rehydrator.errors import StoreDamagedError
from rehydrator.manifest.schema import CANONICAL, BlobRef, Body, EditedDisk, File, Identity, Manifest, Relocated
from rehydrator.manifest.version import MANIFEST_VERSION
from rehydrator.relocation.segments import Segment
from rehydrator.store.depot import Prefix, Signature

CONTENT = b"canonical".ljust(4096, b"\1")


def edited(base: str, size: int = 8192) -> EditedDisk:
    return EditedDisk(base, [Grow(size)])


def copied(*references: str) -> Relocated:
    """Tell a file of all references, 4096 bytes of each, one after the other."""
    segments = [Segment(number * 4096, 4096, number, 0) for number in range(len(references))]
    # what stands for a blob's name here is what it holds
    blob = BlobRef(msgspec.json.encode(segments).decode(), 0, 0)
    return Relocated(4096 * len(references), list(references), blob, None, 0)


class Chained:
    """A depot of artifacts whose keys are those of ``bodies``; counts the manifests that are asked for."""

    def __init__(self, bodies: dict[str, Body]) -> None:
        self.asked = 0
        self._bodies = bodies

    def canonical(self, arch: str) -> Source:
        del arch
        return BytesSource(CONTENT)

    def manifest_by_key(self, arch: str, key: str) -> Manifest:
        self.asked += 1
        platform, image_format, role = key.split(".")
        identity = Identity(platform, arch, image_format, role, "1")
        return Manifest(
            version=MANIFEST_VERSION, artifact=identity, shipped=File(key, 0, ""), body=self._bodies[key]
        )  # fmt: skip

    def content(self, manifest: Manifest, make: Callable[[], Source]) -> Source:
        del manifest
        return make()

    def small_blob(self, ref: BlobRef) -> bytes:
        return ref.sha256.encode()

    def large_blob(self, ref: BlobRef, prefix: Prefix | None = None) -> Source:
        raise AssertionError(ref, prefix)

    def signature(self, manifest: Manifest) -> Signature | None:
        raise AssertionError(manifest)

    def body(self, key: str) -> bytes:
        source = body_source(self.manifest_by_key("x86_64", key), self)
        return bytes(source.read(0, source.size))


def test_edits_of_edits_of_a_relocated_disk() -> None:
    depot = Chained(
        {"a.raw.disk": edited("b.raw.disk", 9000), "b.raw.disk": edited("c.raw.disk"), "c.raw.disk": copied(CANONICAL)}
    )
    assert depot.body("a.raw.disk") == CONTENT.ljust(9000, b"\0")


@pytest.mark.parametrize(
    "bodies",
    [
        {"a.raw.disk": edited("a.raw.disk")},
        {"a.raw.disk": edited("b.raw.disk"), "b.raw.disk": edited("a.raw.disk")},
        {"a.raw.disk": copied(CANONICAL, "b.raw.disk"), "b.raw.disk": edited("a.raw.disk")},
        {"a.raw.disk": edited("b.raw.disk"), "b.raw.disk": copied("b.raw.disk")},
    ],
)
def test_circles(bodies: dict[str, Body]) -> None:
    with pytest.raises(StoreDamagedError, match="in a circle"):
        Chained(bodies).body("a.raw.disk")


def test_chains_have_a_length() -> None:
    bodies: dict[str, Body] = {f"n{number}.raw.disk": edited(f"n{number + 1}.raw.disk") for number in range(9)}
    depot = Chained({**bodies, "n9.raw.disk": edited(CANONICAL)})
    assert depot.body("n2.raw.disk") == CONTENT.ljust(8192, b"\0")
    with pytest.raises(StoreDamagedError, match="too many artifacts"):
        depot.body("n1.raw.disk")


def test_each_artifact_is_opened_once() -> None:
    """Each level refers three times to each of three files of the next one: without memory 9 to the power of 7."""
    bodies: dict[str, Body] = {}
    for level in range(7):
        following = [f"n{level + 1}x{number}.raw.disk" for number in range(3)] if level < 6 else [CANONICAL]
        bodies |= {f"n{level}x{number}.raw.disk": copied(*following * 3) for number in range(3)}
    depot = Chained(bodies)
    assert depot.body("n0x0.raw.disk")[:4096] == CONTENT
    assert depot.asked < 200
