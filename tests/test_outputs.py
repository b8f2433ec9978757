"""Where rehydrated files go and how they come: archives, compressed anew, decompressed; the same each time."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrator.codecs.compressing import Compressor
from rehydrator.codecs.compressing_sink import CompressingSink
from rehydrator.destination import tar_header
from rehydrator.disk.extents import CHUNK, Data
from rehydrator.disk.sink import HashSink, Sink
from rehydrator.errors import OutputError
from tests.support import stores
from tests.support.cli import PROGRAM, environment, fails, fine, hidden
from tests.support.disks import MIB, random_sparse, sibling, with_gpt
from tests.support.releases import ReleaseMaker

PROGRAMS = {Compressor.XZ: "xz", Compressor.GZIP: "gzip", Compressor.ZSTD: "zstd"}


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> ReleaseMaker:
    """A release with a file that has a compression of its own: no sha256 is published for what it holds."""
    made = ReleaseMaker(tmp_path_factory.mktemp("outputs") / "release")
    metal = with_gpt(random_sparse(1, MIB, 0.1, 64) * 3)
    made.add("metal", "raw.xz", metal)
    made.add("openstack", "raw.gz", sibling(metal, 2))
    made.add("gcp", "raw.gz", sibling(metal, 3), promise=False)
    made.finish()
    return made


@pytest.fixture(scope="module")
def store(maker: ReleaseMaker) -> Path:
    made = maker.root.parent / "store"
    fine("build", "dehydrate", maker.root, made, "--level", "1")
    return made


def unpack(data: bytes, compressor: Compressor, need: Callable[..., None]) -> bytes:
    """What the compressor's own program makes of it."""
    need(PROGRAMS[compressor])
    return subprocess.run([PROGRAMS[compressor], "-dc"], input=data, capture_output=True, check=True).stdout


def contents(maker: ReleaseMaker) -> dict[str, bytes]:
    """All files without any compression, by name."""
    return {name.removesuffix(".gz"): _bare(name, data) for name, data in maker.content.items()}


def _bare(name: str, data: bytes) -> bytes:
    return gzip.decompress(data) if name.endswith(".gz") else data


def tree(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


PIECES = {
    "empty": [],
    "short": [b"text"],
    "blocks": [bytes(CHUNK), random_sparse(1, 4096, 1), b"tail"] * 52,  # more than two blocks of 24 MiB
    "zeros": [bytes(CHUNK)] * 50,
}


@pytest.mark.oracle
@pytest.mark.parametrize("compressor", Compressor)
@pytest.mark.parametrize("name", PIECES)
def test_programs_read_it(compressor: Compressor, name: str, need: Callable[..., None]) -> None:
    content = b"".join(PIECES[name])
    made = b"".join(compressor.compress(iter(PIECES[name])))
    assert unpack(made, compressor, need) == content
    cut = [content[at : at + 700_001] for at in range(0, len(content), 700_001)]
    assert b"".join(compressor.compress(cut)) == made, "it does not matter in which pieces it comes"


@pytest.mark.parametrize("compressor", Compressor)
def test_one_processor_makes_the_same(store: Path, compressor: Compressor) -> None:
    words = ("rehydrate", "-", "--disk", "openstack", "--store", str(store), "--compress", compressor)
    allowed = os.sched_getaffinity(0)
    first = min(allowed)
    done = subprocess.run(
        [*PROGRAM, *words], env=environment(), capture_output=True, check=True, timeout=300,
        preexec_fn=lambda: os.sched_setaffinity(0, {first}),
    )  # fmt: skip
    assert done.stdout == fine(*words).out


@pytest.mark.parametrize("compressor", Compressor)
def test_a_directory_of_compressed_files(
    maker: ReleaseMaker, store: Path, tmp_path: Path, compressor: Compressor, need: Callable[..., None]
) -> None:
    for name in ("one", "other"):
        fine("rehydrate", tmp_path / name, "--all", "--store", store, "--compress", compressor)
    made = tree(tmp_path / "one")
    assert made == tree(tmp_path / "other")
    assert {
        name.removesuffix(compressor.suffix): unpack(data, compressor, need) for name, data in made.items()
    } == contents(maker)


def test_decompressed_files(maker: ReleaseMaker, store: Path, tmp_path: Path) -> None:
    fine("rehydrate", tmp_path / "out", "--all", "--store", store, "--decompress")
    assert tree(tmp_path / "out") == contents(maker)
    fine("rehydrate", tmp_path / "published", "--all", "--store", store)
    assert tree(tmp_path / "published") == maker.content


def test_what_is_decompressed_was_compared(store: Path) -> None:
    """The published sha256 is that of the compressed file."""
    name = next(path.name for path in (store / "x86_64" / "manifests").glob("gcp*"))
    told = fine("rehydrate", "-", "--disk", "gcp", "--store", store, "--decompress", "--progress", "plain").err
    assert "sha256 ok" in told
    assert ".raw.gz ok" in told, name
    unchecked = fine(
        "rehydrate", "-", "--disk", "gcp", "--store", store, "--decompress", "--skip-validate", "--progress", "plain"
    )
    assert "not compared" in unchecked.err


ARCHIVES: list[tuple[str, list[str], str, str]] = [
    ("images.tar", [], "images.tar", "r:"),
    ("new/images.tar", ["--compress", "xz"], "new/images.tar.xz", "r:xz"),
    ("images.tar.xz", [], "images.tar.xz", "r:xz"),
    ("images.tar.gz", ["--compress", "gzip"], "images.tar.gz", "r:gz"),
    ("images.tar.gz", ["--decompress"], "images.tar.gz", "r:gz"),
    ("images.tar.gz", ["--compressed"], "images.tar.gz", "r:gz"),
    ("images.tar.zst", [], "images.tar.zst", "zstd"),
]


@pytest.mark.parametrize(("dest", "options", "name", "mode"), ARCHIVES)
def test_archives(
    maker: ReleaseMaker,
    store: Path,
    tmp_path: Path,
    dest: str,
    options: list[str],
    name: str,
    mode: str,
    need: Callable[..., None],
) -> None:
    fine("rehydrate", tmp_path / dest, "--all", "--store", store, *options)
    data = (tmp_path / name).read_bytes()
    fine("rehydrate", tmp_path / dest, "--all", "--store", store, *options)
    assert (tmp_path / name).read_bytes() == data, "replaced by the same bytes"
    assert hidden((tmp_path / name).parent) == []
    if mode == "zstd":
        data, mode = unpack(data, Compressor.ZSTD, need), "r:"
    with tarfile.open(fileobj=io.BytesIO(data), mode=mode) as archive:  # type: ignore[call-overload]  # mode is a str
        members = {item.name: archive.extractfile(item).read() for item in archive.getmembers()}
        assert {(item.uid, item.gid, item.mode, item.mtime) for item in archive.getmembers()} == {(0, 0, 0o644, 0)}
    if "--compressed" in options:
        assert set(members) == {item["path"] for item in maker.images.values()}
    else:
        bare = "--decompress" in options or "--compress" in options
        assert members == (contents(maker) if bare else maker.content)


def test_a_directory_of_that_name_is_a_directory(maker: ReleaseMaker, store: Path, tmp_path: Path) -> None:
    (tmp_path / "images.tar").mkdir()
    fine("rehydrate", tmp_path / "images.tar", "--all", "--store", store)
    assert tree(tmp_path / "images.tar") == maker.content


@pytest.mark.parametrize("epoch", ["0", "1700000000"])
def test_standard_output_is_the_archive(store: Path, tmp_path: Path, epoch: str) -> None:
    env = {"SOURCE_DATE_EPOCH": epoch}
    fine("rehydrate", tmp_path / "images.tar", "--all", "--store", store, env=env)
    assert fine("rehydrate", "-", "--all", "--store", store, env=env).out == (tmp_path / "images.tar").read_bytes()


def test_without_an_epoch_the_time_is_the_releases(real_store: Path) -> None:
    """As GNU date reads it in the stream metadata."""
    stream = fine("print-stream-json", "--store", real_store).text
    told = stream.partition('"last-modified": "')[2].partition('"')[0]
    seconds = subprocess.run(["date", "-d", told, "+%s"], capture_output=True, text=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(fine("rehydrate", "-", "--all", "--store", real_store).out)) as archive:
        assert {item.mtime for item in archive.getmembers()} == {int(seconds)}


@pytest.mark.parametrize("size", [0, 8 << 30, 100 << 30])
@pytest.mark.parametrize("name", ["disk.raw", "x" * 200])
def test_large_files_and_long_names_have_headers(name: str, size: int) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_header(name, size, 5)), mode="r|") as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size, member.mtime) == (name, size, 5)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["only one of"], ["OUT", "--compressed", "--decompress"]),
        (["only one of"], ["OUT", "--compressed", "--compress", "xz"]),
        (["only one of"], ["OUT", "--decompress", "--compress", "gzip"]),
        (["another compressor"], ["OUT/a.tar.xz", "--compress", "zstd"]),
        (["a.tar.bz2: an archive with this name can't be written"], ["OUT/a.tar.bz2"]),
        (["a.tgz: an archive with this name can't be written", ".tar.gz"], ["OUT/a.tgz"]),
        (["/dev/full: is there, and no directory"], ["/dev/full/a.tar"]),
        (["the destination is empty"], [""]),
        (["/dev/null: is there, and no directory"], ["/dev/null"]),
    ],
)
def test_wrong_use(store: Path, tmp_path: Path, words: list[str], arguments: list[str]) -> None:
    dest, *options = arguments
    fails(2, words, "rehydrate", dest.replace("OUT", str(tmp_path / "out")), "--all", "--store", store, *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dest", ["out", "images.tar", "images.tar.xz"])
@pytest.mark.parametrize("options", [[], ["--compress", "xz"]])
def test_a_damaged_store_leaves_nothing(small_store: Path, tmp_path: Path, dest: str, options: list[str]) -> None:
    stores.flip(small_store / "x86_64" / "canonical.raw.zst", 400_000)
    place = tmp_path / "place"
    place.mkdir()
    fails(1, ["can't be decompressed"], "rehydrate", place / dest, "--disk", "metal", "--store", small_store, *options)
    assert [path for path in place.rglob("*") if path.is_file()] == []


def test_a_stream_that_fails_has_no_end(small_store: Path) -> None:
    stores.flip(small_store / "x86_64" / "canonical.raw.zst", 400_000)
    out = fails(1, [], "rehydrate", "-", "--disk", "metal", "--store", small_store, "--compress", "xz").out
    decoder = lzma.LZMADecompressor()
    decoder.decompress(out)
    assert not decoder.eof


class _Full(Sink):
    def write(self, data: Data) -> None:
        raise OutputError("no room")

    def skip(self, length: int) -> None:
        raise OutputError("no room")


@pytest.mark.parametrize("compressor", Compressor)
@pytest.mark.parametrize("pieces", [0, 1, 100])
def test_what_fails_behind_the_compressor_is_raised(compressor: Compressor, pieces: int) -> None:
    sink = CompressingSink(compressor, _Full())
    noise = os.urandom(CHUNK)

    def write() -> None:
        with sink:
            for _ in range(pieces):
                sink.write(noise)
            sink.finish()

    with pytest.raises(OutputError, match="no room"):
        write()


@pytest.mark.parametrize("compressor", Compressor)
def test_leaving_early_waits_for_nothing(compressor: Compressor) -> None:
    with CompressingSink(compressor, HashSink(depth=0)) as sink:
        sink.skip(1 << 50)
