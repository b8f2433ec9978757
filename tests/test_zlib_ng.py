"""Disks that qemu-img compressed with zlib-ng, as Fedora's does, and gzip files of zlib-ng: every byte comes back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from rehydrator.codecs import deflate, wheels, zlib_ng
from rehydrator.disk.source import BytesSource, FileSource
from rehydrator.errors import UnsupportedError
from rehydrator.layers.gzip import GzipLayer
from rehydrator.layers.qcow2 import Qcow2Layer
from rehydrator.layers.vmdk import VmdkLayer
from tests.support import zlib_ng_compat
from tests.support.compressible import compressible
from tests.support.disks import MIB

pytestmark = pytest.mark.oracle
T = TypeVar("T", bound=msgspec.Struct)
_FEW = 16  # bytes
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rehydrator-tests"


class Real(msgspec.Struct, frozen=True):
    """A version of zlib-ng that stands in for zlib."""

    version: str
    library: Path

    @property
    def wheel(self) -> wheels.Wheel:
        """The distribution that it was built from."""
        return zlib_ng.CLASSES[self.version]

    def named(self, record: T, field: str, level: int) -> T:
        """Return a record that names this class; for some content another gives the same bytes, and is found first."""
        return msgspec.structs.replace(record, **{field: f"zlib-ng-{self.version}-{level}"})


@pytest.fixture(scope="module", params=zlib_ng.CLASSES)
def real(
    request: pytest.FixtureRequest, need: Callable[..., None], fetched_codecs: Callable[[], Path]
) -> Iterator[Real]:
    """A class of zlib-ng: its compat library for other programs, and its wheel for this one."""
    need("qemu-img", *zlib_ng_compat.PROGRAMS)
    version: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(wheels.DIRECTORY_VARIABLE, str(fetched_codecs()))
        try:
            deflate.encoder(f"zlib-ng-{version}-6")
            library = zlib_ng_compat.build(zlib_ng.CLASSES[version], CACHE)
        except UnsupportedError as error:
            pytest.skip(str(error))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"zlib-ng can't be built: {error.stderr.strip()[-200:]}")
        yield Real(version, library)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (VmdkLayer(), ["vmdk", "-o", "subformat=streamOptimized"]),
        (Qcow2Layer(), ["qcow2", "-c"]),
        (Qcow2Layer(), ["qcow2", "-c", "-o", "cluster_size=4k"]),
    ],
    ids=["vmdk", "qcow2", "qcow2 of 4 KiB"],
)
def test_every_byte_comes_back(tmp_path: Path, real: Real, layer: VmdkLayer | Qcow2Layer, options: list[str]) -> None:
    disk = compressible(1, 12 * MIB)
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(disk)
    environment = zlib_ng_compat.environment(real.library)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", *options, raw, image], check=True, env=environment)
    with FileSource(image) as outer:
        unwrapped = layer.unwrap(outer, image)
        assert bytes(unwrapped.inner.read(0, len(disk))) == disk
    assert "by zlib-ng-" in layer.describe(unwrapped.record)
    patched = unwrapped.record.patched
    if "cluster_size=4k" in options:  # short chunks tell classes apart so rarely that their neighbour may be found
        assert patched is None or patched.literal_bytes <= _FEW
    else:
        assert patched is None
    field = "deflate" if isinstance(layer, VmdkLayer) else "encoder"
    own = real.named(msgspec.structs.replace(unwrapped.record, patched=None), field, 6)
    for record, tables in ((unwrapped.record, unwrapped.tables), (own, ())):
        again = layer.wrap(BytesSource(disk), record, tables)
        assert bytes(again.read(0, again.size)) == image.read_bytes()


@pytest.mark.parametrize("level", [2, 6, 9])
def test_gzip_files(real: Real, level: int) -> None:
    content = compressible(2, 3 * MIB)
    program = zlib_ng_compat.minigzip(real.wheel, CACHE)
    data = subprocess.run([program, f"-{level}", "-c"], input=content, check=True, capture_output=True).stdout
    unwrapped = GzipLayer().unwrap(BytesSource(data), Path("x.gz"))
    assert unwrapped.record.deflate.startswith("zlib-ng-")
    for record in (unwrapped.record, real.named(unwrapped.record, "deflate", level)):
        again = GzipLayer().wrap(BytesSource(content), record)
        assert bytes(again.read(0, again.size)) == data
