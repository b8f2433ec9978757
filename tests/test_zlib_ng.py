"""Disks that qemu-img compressed with zlib-ng, as Fedora's does, and gzip files of zlib-ng: every byte comes back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.codecs import deflate, zlib_ng
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import UnsupportedError
from rehydrator.layers.gzip import GzipLayer
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.vmdk import VmdkLayer
from tests.support import zlib_ng_compat
from tests.support.compressible import compressible
from tests.support.disks import MIB

pytestmark = pytest.mark.oracle
CLASS = "2.3"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rehydrator-tests"


@pytest.fixture(scope="module")
def environment(need: Callable[..., None]) -> dict[str, str]:
    """An environment in which qemu-img compresses with zlib-ng."""
    need("qemu-img", *zlib_ng_compat.PROGRAMS)
    try:
        deflate.encoder(f"zlib-ng-{CLASS}-6")
    except UnsupportedError as error:
        pytest.skip(str(error))
    try:
        library = zlib_ng_compat.build(zlib_ng.CLASSES[CLASS], CACHE)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"zlib-ng can't be built: {error.stderr.strip()[-200:]}")
    return zlib_ng_compat.environment(library)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (VmdkLayer(), ["vmdk", "-o", "subformat=streamOptimized"]),
        (Qcow2Layer(), ["qcow2", "-c"]),
        (Qcow2Layer(), ["qcow2", "-c", "-o", "cluster_size=4k"]),
    ],
    ids=["vmdk", "qcow2", "qcow2 of 4 KiB"],
)
def test_every_byte_comes_back(
    tmp_path: Path, environment: dict[str, str], layer: VmdkLayer | Qcow2Layer, options: list[str]
) -> None:
    disk = compressible(1, 12 * MIB)
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(disk)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", *options, raw, image], check=True, env=environment)
    with FileSource(image) as outer:
        unwrapped = layer.unwrap(outer, image)
        assert bytes(unwrapped.inner.read(0, len(disk))) == disk
    again = layer.wrap(BytesSource(disk), unwrapped.record, unwrapped.tables)
    assert f"by zlib-ng-{CLASS}-6" in layer.describe(unwrapped.record)
    assert unwrapped.record.patched is None
    assert bytes(again.read(0, again.size)) == image.read_bytes()


@pytest.mark.parametrize("level", [2, 6, 9])
@pytest.mark.usefixtures("environment")
def test_gzip_files(level: int) -> None:
    content = compressible(2, 3 * MIB)
    program = zlib_ng_compat.minigzip(zlib_ng.CLASSES[CLASS], CACHE)
    data = subprocess.run([program, f"-{level}", "-c"], input=content, check=True, capture_output=True).stdout
    unwrapped = GzipLayer().unwrap(BytesSource(data), Path("x.gz"))
    assert unwrapped.record.deflate == f"zlib-ng-{CLASS}-{level}"
    again = GzipLayer().wrap(BytesSource(content), unwrapped.record)
    assert bytes(again.read(0, again.size)) == data
