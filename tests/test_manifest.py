"""Manifests: text and back, the shape of a real one, versions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from rehydrator.edits.blocks import Blocks, ByteRun
from rehydrator.edits.grow import Grow
from rehydrator.errors import CorruptError, UnsupportedError
from rehydrator.layers.block_runs import BlockRun
from rehydrator.layers.qcow2_record import Extension, FeatureName, Kind, Qcow2Record, Run
from rehydrator.layers.table import LayerRecord
from rehydrator.manifest.schema import (
    BlobRef,
    Body,
    EditedDisk,
    File,
    Identity,
    Manifest,
    Relocated,
    Rung,
    Stored,
    StoreIndex,
    Uncompressed,
)
from rehydrator.manifest.text import decode, encode
from rehydrator.manifest.version import MANIFEST_VERSION, check_version

GOLDEN = Path(__file__).parent / "golden" / "openstack-manifest-shape.json"
REF = BlobRef("ab" * 32, 10, 20)
RECORD = Qcow2Record(
    version=3,
    cluster_bits=16,
    file_size=1 << 20,
    l1_size=1,
    refcount_table_clusters=1,
    l1_table=3,
    refcount_table=1,
    refcount_blocks=(2, 7),
    feature_names=(FeatureName(0, 1, 'name "quoted" ü'),),
    extensions=[Extension(7, b"\0\xff")],
    allocation=[BlockRun(0, 5), BlockRun(9, 1)],
    placement=[Run(Kind.DATA, 4, 0, 1)],
)
RUNS = [ByteRun(offset, 2) for offset in range(0, 900, 9)]
BODIES: list[tuple[Body, Rung]] = [
    (EditedDisk("canonical", []), Rung.EDITS),
    (
        EditedDisk("canonical", [Grow(9), Blocks("p3 boot", 5, [ByteRun(i, 2) for i in range(0, 900, 9)], "x")]),
        Rung.EDITS,
    ),
    (Relocated(7, ["canonical", "qemu.qcow2.disk"], REF, REF, 5), Rung.RELOCATED),
    (Relocated(7, [], REF, None, 5), Rung.RELOCATED),
    (Stored(REF), Rung.STORED),
]


def manifest(body: Body, layers: list[LayerRecord]) -> Manifest:
    return Manifest(
        version=MANIFEST_VERSION,
        artifact=Identity("qemu", "x86_64", "qcow2.xz", "disk", "40.1"),
        shipped=File("a.qcow2.xz", 1, "00" * 32),
        uncompressed=Uncompressed(2, "11" * 32),
        layers=layers,
        body=body,
        blobs=[REF],
    )


@pytest.mark.parametrize(("body", "rung"), BODIES)
@pytest.mark.parametrize("layers", [[], [RECORD], [RECORD, RECORD]])
def test_round_trip(body: Body, rung: Rung, layers: list[LayerRecord]) -> None:
    value = manifest(body, layers)
    text = encode(value)
    assert decode(text, Manifest, Path("m")) == value
    assert json.loads(text) == json.loads(msgspec.json.encode(value))
    assert value.rung is rung
    assert max(map(len, text.decode().splitlines())) < 260


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=40)),
    lambda inner: st.one_of(st.lists(inner, max_size=12), st.dictionaries(st.text(max_size=9), inner, max_size=6)),
    max_leaves=40,
)


class Any_(msgspec.Struct):  # noqa: N801
    value: Any


@given(json_values)
def test_any_value_survives_the_layout(value: object) -> None:
    assert json.loads(encode(Any_(value))) == {"value": value}


def _shape(value: object) -> object:
    """Replace what differs from build to build by its kind."""
    match value:
        case dict():
            return {key: _shape(item) for key, item in value.items()}
        case list() if value and all(isinstance(item, list) for item in value) and len(value) > 8:
            return ["…", _shape(value[0])]
        case list():
            return [_shape(item) for item in value]
        case str() if re.fullmatch("[0-9a-f]{64}", value):
            return "<sha256>"
        case str():
            return re.sub(r"\d+\.\d{8}\.\d+\.\d+", "<release>", value)
        case bool() | None:
            return value
        case _:
            return "<number>"


def test_the_shape_of_a_real_manifest(real_store: Path) -> None:
    """Any change of the schema shows here; after a wanted one copy the new shape and raise the version."""
    found = json.loads((real_store / "x86_64" / "manifests" / "openstack.qcow2.xz.disk.json").read_bytes())
    assert _shape(found) == json.loads(GOLDEN.read_bytes()), json.dumps(_shape(found), indent=1, ensure_ascii=False)


def test_a_sibling_takes_a_kibibyte(real_store: Path) -> None:
    """Readable, and as small as what tools write that explain nothing: the limits are those of scripts/bench."""
    for path in (real_store / "x86_64" / "manifests").iterdir():
        text = path.read_bytes()
        assert len(text) <= 4096
        assert len(zstandard.ZstdCompressor(level=19).compress(text)) <= 1024


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"version": 1}', b"[" * 20000, b'"\\ud800"', b"null"])
@pytest.mark.parametrize("kind", [Manifest, StoreIndex])
def test_invalid_text(text: bytes, kind: type[msgspec.Struct]) -> None:
    with pytest.raises(CorruptError, match=f"not a valid {kind.__name__}") as caught:
        decode(text, kind, Path("some.json"))
    assert caught.value.path == "some.json"


@pytest.mark.parametrize("bits", [-1, 0, 8, 22, 1 << 40])
def test_cluster_sizes_have_bounds(bits: int) -> None:
    """They are a shift: what a forged one needs in memory must never be computed."""
    with pytest.raises(CorruptError, match=r"cluster_bits"):
        decode(b'{"layer": "qcow2", "file_size": 1, "l1_size": 1, "cluster_bits": %d}' % bits, Qcow2Record, Path("x"))


def test_unknown_fields_are_passed_over() -> None:
    value = manifest(Stored(REF), [])
    document = json.loads(encode(value)) | {"new": {"of": "1.1"}}
    assert decode(json.dumps(document).encode(), Manifest, Path("m")) == value


@pytest.mark.parametrize("found", ["1.0", "1.7", "1.99"])
def test_known_versions(found: str) -> None:
    check_version("the store", found, "1.0", Path("s"))


@pytest.mark.parametrize("found", ["2.0", "0.9", "10.0"])
def test_other_major_versions(found: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(f"the store has version {found}")):
        check_version("the store", found, "1.0", Path("s"))


@pytest.mark.parametrize("found", ["", "1", "1.", ".1", "a.b", "1.0.0", "-1.0", "1.x"])
def test_no_versions(found: str) -> None:
    with pytest.raises(CorruptError, match=r"major\.minor"):
        check_version("the store", found, "1.0", Path("s"))
