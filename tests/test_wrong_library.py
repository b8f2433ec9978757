"""Rehydrating a live root file system where a compression library is of another class than the one that made it."""

from __future__ import annotations

import lzma
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rehydrator.codecs import deflate, lzma2, zstd
from rehydrator.errors import ExitCode
from tests.support.cli import fine, run
from tests.support.compressible import compressible
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker

pytestmark = pytest.mark.oracle

CACHES: tuple[Any, ...] = (
    *(deflate.encoder, deflate.known_answer, deflate.test_text),
    *(lzma2.encoder, zstd.encoder, zstd.library),
)


def _forget() -> None:
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def _nothing_known() -> Iterator[None]:
    """What was found out of libraries is forgotten, before and after."""
    _forget()
    yield
    _forget()


def _other_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    real = zlib.compressobj
    monkeypatch.setattr(zlib, "compressobj", lambda level, *others: real(max(level - 3, 1), *others))


def _other_liblzma(monkeypatch: pytest.MonkeyPatch) -> None:
    real = lzma.compress

    def compress(data: bytes, form: int, *, filters: list[dict[str, int]]) -> bytes:
        return real(data, form, filters=[*filters[:-1], {**filters[-1], "nice_len": 20}])

    monkeypatch.setattr(lzma, "compress", compress)


def _other_libzstd(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compressor:
        """One that compresses otherwise at each level."""

        def __init__(self, level: int, **others: Any) -> None:  # noqa: ANN401 - as the real one's
            self.compress = _REAL_ZSTD(level=level - 4, **others).compress

    monkeypatch.setattr(zstandard, "ZstdCompressor", Compressor)


_REAL_ZSTD = zstandard.ZstdCompressor


@pytest.mark.usefixtures("_nothing_known")
@pytest.mark.parametrize(
    ("options", "replace", "encoder", "hint"),
    [
        ("gzip", _other_zlib, "deflate encoder zlib-9", "built with the zlib of zlib.net"),
        ("xz -Xbcj x86", _other_liblzma, "LZMA2 encoder liblzma-6", "built with liblzma 5.4"),
        ("zstd -Xcompression-level 18", _other_libzstd, "zstd encoder zstd-1.5.7-18", "zstandard==0.25.0"),
    ],
    ids=["zlib", "liblzma", "libzstd"],
)
def test_the_wrong_library_is_refused_by_name(
    options: str,
    replace: Callable[[pytest.MonkeyPatch], None],
    encoder: str,
    hint: str,
    need: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The encoder that the store needs is named, and nothing is written; with the right one the file comes back."""
    need("mksquashfs", "cpio")
    content = compressible(1, 300_000)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(content)
    command = ["mksquashfs", "tree", "root.squashfs", "-noappend", "-quiet", "-no-progress", "-comp", *options.split()]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    pack = ["cpio", "-o", "-H", "newc", "--quiet"]
    rootfs = subprocess.run(pack, input=b"root.squashfs", check=True, capture_output=True, cwd=tmp_path).stdout
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", metal_disk() + content + bytes(-len(content) % 4096))
    maker.add("live-rootfs", "img", rootfs)
    store, out = tmp_path / "store", tmp_path / "out"
    fine("build", "dehydrate", maker.finish(), store, "--progress", "none")
    assert f"squashfs by {encoder.rsplit(maxsplit=1)[-1]}, " in fine("info", "--store", store).text
    with monkeypatch.context() as patch:
        replace(patch)
        _forget()
        result = run("rehydrate", out, "--store", store, "--disk", "pxe-rootfs")
        assert result.code == ExitCode.UNSUPPORTED
        assert f"the {encoder} is needed, but" in " ".join(result.err.split())
        assert hint in " ".join(result.err.split())
        assert not list(out.rglob("*"))
    _forget()
    fine("rehydrate", out, "--store", store, "--disk", "pxe-rootfs")
    assert (out / next(name for name in maker.content if "rootfs" in name)).read_bytes() == rootfs
