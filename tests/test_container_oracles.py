"""Other programs read the containers that the layers write, and the layers read those of other programs.

The tools of VirtualBox and VMware can't be had from Debian or PyPI. VMDKstream stands for those that write a VMDK with
its directory at the end.
"""

from __future__ import annotations

import importlib
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.explain.peel import take_off
from rehydrator.layers.table import format_of
from rehydrator.synthesis.made import Made
from rehydrator.synthesis.template import template
from rehydrator.synthesis.usual import NAME
from rehydrator.synthesis.wrapping import wrapped
from tests.support.containers import convert, exact, sparse_raw, write_source
from tests.support.disks import MIB, random_sparse

# by the name of a kind: what qemu-img is told to write; the suffix comes first
KINDS: dict[str, tuple[str, ...]] = {
    "qcow2": ("qcow2",),
    "qcow2 v2": ("qcow2", "-o", "compat=0.10"),
    "qcow2 -c": ("qcow2", "-c"),
    "qcow2 of 512 bytes": ("qcow2", "-o", "cluster_size=512"),
    "vmdk": ("vmdk", "-o", "subformat=streamOptimized"),
    "vmdk compat6": ("vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic,compat6"),
    "vhd": ("vpc", "-o", "subformat=fixed,force_size"),
    "vhd dynamic": ("vpc", "-o", "subformat=dynamic,force_size"),
    "vhdx": ("vhdx",),
}
FRESH = ("qcow2", "vmdk", "vhd", "vhdx")  # records that no other program made
SIZES = {"sparse": 9 * MIB, "full": 3 * MIB, "odd size": 5 * MIB + 1536}
DENSITIES = {"sparse": 0.03, "full": 1.0, "odd size": 0.5}


def libyal(module: str, kind: str = "file") -> Callable[[Path, int, int], bytes]:
    """Return how to read from an image with a library of libyal."""

    def read(image: Path, offset: int, length: int) -> bytes:
        handle: Any = getattr(importlib.import_module(module), kind)()
        handle.open(str(image))
        if kind == "handle":
            handle.open_extent_data_files()
        try:
            data: bytes = handle.read_buffer_at_offset(length, offset)
            assert handle.get_media_size() >= offset + length
            return data
        finally:
            handle.close()

    return read


def seven_zip(image: Path, offset: int, length: int) -> bytes:
    done = subprocess.run(["7zz", "e", "-so", image], check=True, capture_output=True)
    return done.stdout[offset : offset + length]


def qemu(image: Path, offset: int, length: int) -> bytes:
    raw = image.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    with FileSource(raw) as source:
        return bytes(source.read(offset, length))


# Who reads what. libqcow knows no compressed clusters, 7-Zip no VMDK with its directory in front of compressed grains,
# and no VHDX whose disk ends within a block.
ORACLES: dict[str, tuple[Callable[[Path, int, int], bytes], tuple[str, ...]]] = {
    "libqcow": (libyal("pyqcow"), ("qcow2", "qcow2 v2", "qcow2 of 512 bytes")),
    "libvmdk": (libyal("pyvmdk", "handle"), ("vmdk", "vmdk compat6")),
    "libvhdi": (libyal("pyvhdi"), ("vhd", "vhd dynamic", "vhdx")),
    "7zz": (seven_zip, ("qcow2", "qcow2 v2", "qcow2 -c", "vhd", "vhd dynamic")),
    "qemu-img": (qemu, tuple(KINDS)),
}
READINGS = [(oracle, kind) for oracle, (_, kinds) in ORACLES.items() for kind in kinds]


def rewritten(image: Path, made: Path) -> Path:
    """Take a container off and write what the layer makes of disk and record."""
    with FileSource(image) as outer:
        found = format_of(outer)
        assert found is not None
        record, inner = exact(found.layer, outer)
        tables = found.layer.unwrap(outer, image).tables
        return write_source(found.layer.wrap(inner, record, tables), made)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Raw disks by the name of their shape."""
    work = tmp_path_factory.mktemp("disks")
    made = {}
    for shape, size in SIZES.items():
        made[shape] = work / f"{shape}.raw"
        made[shape].write_bytes(random_sparse(len(shape), size, DENSITIES[shape]))
    return made


@pytest.fixture(scope="module")
def images(
    need: Callable[..., None], disks: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """Return a function that gives what a layer writes of a kind, around the disk of a shape."""
    need("qemu-img")
    work = tmp_path_factory.mktemp("images")
    made: dict[str, Path] = {}

    def image(kind: str, shape: str) -> Path:
        name = f"{shape} {kind}".replace(" ", "-")
        if name not in made:
            options = KINDS[kind]
            theirs = convert(disks[shape], work / f"{name}.theirs", *options)
            suffix = {"vpc": "vhd"}.get(options[0], options[0])
            made[name] = rewritten(theirs, work / f"{name}.{suffix}")
            theirs.unlink()
        return made[name]

    return image


@pytest.mark.oracle
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("oracle", "kind"), READINGS)
def test_others_read_what_the_layers_write(
    need: Callable[..., None],
    disks: dict[str, Path],
    images: Callable[[str, str], Path],
    oracle: str,
    kind: str,
    shape: str,
) -> None:
    need(*(["7zz"] if oracle == "7zz" else []))
    raw = disks[shape].read_bytes()
    assert ORACLES[oracle][0](images(kind, shape), 0, len(raw)) == raw


@pytest.mark.oracle
@pytest.mark.parametrize(("oracle", "kind"), [row for row in READINGS if row[1] in FRESH])
def test_others_read_files_with_fresh_records(
    need: Callable[..., None], disks: dict[str, Path], tmp_path: Path, oracle: str, kind: str
) -> None:
    need("qemu-img", *(["7zz"] if oracle == "7zz" else []))
    raw = disks["odd size"].read_bytes()
    made = Made(stem="disk", like=NAME, arch="x86_64", disk=BytesSource(raw))
    image = write_source(wrapped(template(kind, "new", []), made), tmp_path / f"disk.{kind}")
    assert ORACLES[oracle][0](image, 0, len(raw)) == raw


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["qcow2", "qcow2 -c", "vmdk", "vhd dynamic", "vhdx"])
def test_disks_beyond_4_gib(need: Callable[..., None], tmp_path: Path, kind: str) -> None:
    """Exact and read alike by another program: eleven L2 tables, places that do not fit in 32 bits."""
    need("qemu-img")
    order = random.Random(kind)
    size = 5 * 1024 * MIB + 1024
    pieces = {at * MIB + 512: order.randbytes(70_000) for at in (0, 2047, 4095, 5119)}
    raw = sparse_raw(tmp_path / "raw", size, pieces)
    suffix = {"vpc": "vhd"}.get(KINDS[kind][0], KINDS[kind][0])
    image = rewritten(convert(raw, tmp_path / "theirs", *KINDS[kind]), tmp_path / f"ours.{suffix}")
    subprocess.run(["qemu-img", "compare", "-f", "raw", raw, image], check=True, capture_output=True)
    oracles = [oracle for oracle, row in READINGS if row == kind and oracle.startswith("lib")]
    for oracle in oracles:
        for at, data in pieces.items():
            assert ORACLES[oracle][0](image, at, len(data)) == data
            assert not any(ORACLES[oracle][0](image, at + 100_000, 9000))


# -- files of other programs

SEVEN_ZIP = {"gzip": "gz", "xz": "xz", "zip": "zip", "tar": "tar"}


@pytest.mark.oracle
@pytest.mark.parametrize("shape", SIZES)
def test_a_vmdk_by_vmdkstream(need: Callable[..., None], disks: dict[str, Path], tmp_path: Path, shape: str) -> None:
    need("python:VMDKstream")
    image = tmp_path / "disk.vmdk"
    subprocess.run(["/usr/bin/python3", "-m", "VMDKstream", disks[shape], image], check=True, capture_output=True)
    with FileSource(image) as outer:
        bare = take_off(outer, image)
        (container,), inner = bare.containers, bare.source
        assert bare.obstacle is None
        assert container.text.endswith("its tables at the end")
        raw = disks[shape].read_bytes()
        assert bytes(inner.read(0, len(raw))) == raw
        assert not any(inner.read(len(raw), inner.size - len(raw)))  # its disks are whole grains


@pytest.mark.oracle
@pytest.mark.parametrize("kind", SEVEN_ZIP)
def test_archives_by_7_zip(need: Callable[..., None], disks: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Another deflate and another LZMA2 encoder: read in any case, given back where one of ours makes the same."""
    need("7zz")
    archive = tmp_path / f"disk.{SEVEN_ZIP[kind]}"
    subprocess.run(["7zz", "a", f"-t{kind}", archive, disks["sparse"]], check=True, capture_output=True)
    with FileSource(archive) as outer:
        bare = take_off(outer, archive)
        (container,), inner = bare.containers, bare.source
        assert bare.obstacle is None
        assert msgspec.structs.asdict(container.record)
        assert bytes(inner.read(0, inner.size)) == disks["sparse"].read_bytes()
