"""C libraries out of wheels: several versions side by side, and what is said where one is missing."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrator.codecs import deflate, pinned, wheels, zlib_ng
from rehydrator.codecs.fingerprint import recognise
from rehydrator.errors import UnsupportedError
from rehydrator.layers.packed import Inflated, find_encoder
from tests.support.compressible import compressible

ROOT = Path(__file__).parent.parent


@pytest.fixture
def _directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty directory of wheel files, and nothing loaded yet."""

    def forget() -> None:
        wheels.load.cache_clear()
        zlib_ng.library.cache_clear()
        deflate.encoder.cache_clear()
        deflate.known_answer.cache_clear()

    monkeypatch.setenv(wheels.DIRECTORY_VARIABLE, str(tmp_path))
    forget()
    yield
    forget()


@pytest.mark.usefixtures("_directory")
def test_a_missing_library_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(UnsupportedError, match=r"zlib-ng==0\.5\.1 is needed") as caught:
        deflate.encoder("zlib-ng-2.1-6")
    assert "scripts/fetch-codecs" in str(caught.value.hint)
    assert "pip install zlib-ng==0.5.1" in str(caught.value.hint)


@pytest.mark.usefixtures("_directory")
def test_missing_libraries_are_named_where_no_other_comes_near() -> None:
    """As for a VMDK that was compressed by one of them."""
    plain = compressible(1, 65536, noise=0)
    packed = b"by another encoder" * 500

    class Chunks:
        def __len__(self) -> int:
            return 1

        def number_of(self, position: int) -> int:
            return position

        def room_of(self, _position: int) -> int:
            return len(packed)

        def prepare(self, _position: int) -> Callable[[], Inflated]:
            return lambda: Inflated(packed, plain)

    assert recognise([(plain, packed)]).missing[-2:] == ("zlib-ng-2.2", "zlib-ng-2.1")
    with pytest.raises(UnsupportedError, match="by an unknown deflate encoder") as caught:
        find_encoder(Chunks(), deflate.USUAL)
    assert "zlib-ng-2.2, zlib-ng-2.1, which are not at hand: run scripts/fetch-codecs" in str(caught.value.hint)


@pytest.mark.usefixtures("_directory")
def test_damaged_and_foreign_wheels(tmp_path: Path) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    foreign = tmp_path / f"zlib_ng-0.5.1-{python}-{python}-manylinux_2_17_vax.whl"
    foreign.write_bytes(b"")
    with pytest.raises(UnsupportedError, match="neither installed nor in"):
        zlib_ng.library("2.1")
    damaged = tmp_path / f"zlib_ng-0.5.1-{python}-{python}-manylinux_2_17_{platform.machine()}.whl"
    damaged.write_bytes(b"no zip file")
    with pytest.raises(UnsupportedError, match="this wheel is damaged"):
        zlib_ng.library("2.1")
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("zlib_ng/zlib_ng.abi.so", b"no library")
    with pytest.raises(UnsupportedError, match="can't be loaded"):
        zlib_ng.library("2.1")


@pytest.mark.oracle
@pytest.mark.usefixtures("_directory")
def test_all_classes_side_by_side(tmp_path: Path, fetched_codecs: Callable[[], Path]) -> None:
    """Each class is told from its neighbours by the chunks that it compressed."""
    for path in fetched_codecs().iterdir():
        (tmp_path / path.name).symlink_to(path)
    names = [f"zlib-ng-{version}-6" for version in zlib_ng.CLASSES]
    plain = [compressible(seed, 65536, noise=0, holes=0.2) for seed in range(60)]
    packed = {name: [deflate.encoder(name).compress(item) or b"" for item in plain] for name in names}
    for name in names:
        found = recognise(list(zip(plain, packed[name], strict=True)))
        assert found.exact
        assert [found.encoder.compress(item) for item in plain] == packed[name]
    there = {"==".join(path.name.split("-")[:2]).replace("_", "-") for path in tmp_path.iterdir()}
    assert {item.requirement for item in pinned.WHEELS} == there


def test_the_list_of_wheels_is_printed() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "rehydrator.codecs.pinned"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert said.split() == [wheel.requirement for wheel in pinned.WHEELS]
    assert "zlib-ng==1.1.0" in (ROOT / "pyproject.toml").read_text()
