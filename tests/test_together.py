"""Artifacts made at once: the same bytes, each frame of the canonical decoded about once, and no one waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from rehydrator.codecs import seekable
from rehydrator.destination import to_directory
from rehydrator.disk.convoy import Convoy
from rehydrator.disk.source import BytesSource
from rehydrator.errors import MismatchError
from rehydrator.manifest.schema import File, Manifest
from rehydrator.progress import Progress
from rehydrator.rehydrate import Options, emit
from rehydrator.store.depot import Depot
from rehydrator.store.reader import Store
from rehydrator.together import side_by_side
from tests.support import stores
from tests.support.cli import fails, fine, leftovers
from tests.support.disks import MIB, random_sparse, sibling, with_gpt
from tests.support.releases import ReleaseMaker
from tests.test_rehydrate import sha256_file

STEP = 64 << 10
SIZE = 64 * STEP


@pytest.mark.parametrize("readers", [1, 2, 7])
@pytest.mark.parametrize("window", [STEP, 5 * STEP, SIZE])
def test_nobody_is_further_ahead_than_the_window(readers: int, window: int) -> None:
    convoy = Convoy(window)
    members = [convoy.join(BytesSource(bytes(SIZE))) for _ in range(readers)]
    places = [0] * readers
    spread: list[int] = []

    def read(number: int) -> None:
        for at in range(0, SIZE, STEP):
            members[number].read(at, STEP)
            places[number] = at
            spread.append(at - min(places))
        places[number] = SIZE
        members[number].close()

    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(read, range(readers), timeout=60))
    # who reads a step has noted the one before it
    assert max(spread) <= window + STEP


def test_a_reader_that_ends_is_not_waited_for() -> None:
    convoy = Convoy(STEP)
    ahead, gone = (convoy.join(BytesSource(bytes(SIZE))) for _ in range(2))
    reader = threading.Thread(target=ahead.read, args=(SIZE - STEP, STEP), daemon=True)
    reader.start()
    reader.join(0.05)
    assert reader.is_alive(), "it waits for the other one"
    gone.close()
    reader.join(60)
    assert not reader.is_alive()


@pytest.mark.parametrize(("offset", "length"), [(0, STEP), (SIZE - 512, 512)])
def test_going_back_and_looking_something_up_wait_for_nobody(offset: int, length: int) -> None:
    convoy = Convoy(STEP)
    member, _other = (convoy.join(BytesSource(bytes(SIZE))) for _ in range(2))
    assert len(member.read(STEP, STEP)) == STEP
    assert len(member.read(offset, length)) == length


@pytest.mark.parametrize("jobs", ["1", "2", "24"])
def test_files_are_the_same_however_many_are_made_at_once(small_store: Path, tmp_path: Path, jobs: str) -> None:
    fine("rehydrate", tmp_path / "out", "--all", "--store", small_store, "--jobs", jobs)
    with Store(small_store) as store:
        contents = {item.content.name: item.content.sha256 for item in store.manifests("x86_64")}
    assert {path.name: sha256_file(path) for path in (tmp_path / "out").iterdir()} == contents


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of eight disks of 48 MiB, which are 24 frames each."""
    maker = ReleaseMaker(tmp_path_factory.mktemp("together") / "release")
    metal = with_gpt(random_sparse(1, 2 * MIB, 1.0, 64) * 24)
    maker.add("metal", "raw", metal)
    for number, name in enumerate(("aws", "azure", "gcp", "hetzner", "openstack", "qemu", "vultr"), 2):
        maker.add(name, "raw", sibling(metal, number))
    store = maker.root.parent / "store"
    fine("build", "dehydrate", maker.finish(), store, "--level", "1", "--no-compressed")
    return store


def test_frames_are_decoded_about_once(large_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each of the eight disks: but for the beginning and the end, who is ahead waits for the others."""
    decoded: list[int] = []
    decode = seekable.SeekableSource._decode

    def counted(self: seekable.SeekableSource, index: int) -> bytes:
        if self is canonical:
            decoded.append(index)
        return decode(self, index)

    with Store(large_store, threads=2) as store:
        canonical = store.canonical("x86_64")
        monkeypatch.setattr(seekable.SeekableSource, "_decode", counted)
        chosen = [item for item in store.manifests("x86_64") if item.rung == "edits"]
        side_by_side(chosen, store, _to_nowhere, 24, Progress())
    assert len(chosen) == 8
    assert len(set(decoded)) == 24
    assert len(decoded) <= 4 * 24, "some are decoded again, depending on who comes first"


def _to_nowhere(manifest: Manifest, depot: Depot) -> None:
    emit(manifest, depot, [], Progress(), Options(jobs=24))


def test_one_that_fails_ends_the_others(small_store: Path, tmp_path: Path) -> None:
    with Store(small_store) as store:
        good = store.manifests("x86_64")
        first = next(item for item in good if item.rung == "edits")
        wrong = msgspec.structs.replace(
            first,
            artifact=msgspec.structs.replace(first.artifact, platform="wrong"),
            shipped=File("wrong", first.content.size, "0" * 64),
            uncompressed=None,
        )
        with pytest.raises(MismatchError, match="wrong"):
            to_directory([wrong, *good], store, tmp_path / "out", Progress(), Options(jobs=24))
    assert leftovers(tmp_path / "out") == []
    for path in (tmp_path / "out").iterdir():
        assert sha256_file(path) in {item.content.sha256 for item in good}


def test_a_damaged_canonical_ends_all(small_store: Path, tmp_path: Path) -> None:
    stores.flip(small_store / "x86_64" / "canonical.raw.zst", 50_000)
    fails(1, ["frame", "can't be decompressed"], "rehydrate", tmp_path / "out", "--all", "--store", small_store)
    assert leftovers(tmp_path / "out") == []
