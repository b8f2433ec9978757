"""Files that come in pieces: what to fetch, from registries that have ranges, have none, or lie about them."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from rehydrator.errors import FetchError, MismatchError, OutputError, RehydratorError, StoreDamagedError
from rehydrator.manifest.schema import BlobRef, File, Pieces
from rehydrator.progress import Cancelled, Progress
from rehydrator.registry.pieced import PiecedFile
from rehydrator.registry.readahead import MOST, Reader, next_run
from rehydrator.store.pieces import PieceDigests, digests_of
from rehydrator.transport.client import Client, Patience
from rehydrator.transport.ranges import part_of
from tests.support import server
from tests.support.registry import Small, serving_registry
from tests.support.server import Act, Handler, drop, without_ranges

PIECE = 4 << 10
COUNT = 100
CONTENT = random.Random(7).randbytes(PIECE * COUNT - 100)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/v2/store/blobs/sha256:" + SHA256
GET = f"GET {PATH}"
QUICK = Patience(connect=5, read=20, floor=1, retries=2, pause=0)


def reading(*pieces: int) -> Reader:
    """A reader after it read these pieces."""
    reader = Reader()
    for piece in pieces:
        reader = reader.moved(range(piece, piece + 1))
    return reader


@pytest.mark.parametrize(
    ("waited_for", "reader", "there", "expected"),
    [
        ([], Reader(), "00000000", range(0)),
        ([5], reading(5), "00000000", range(5, 6)),  # a look somewhere brings no more than it needs
        ([5], reading(5), "00000100", range(0)),
        ([5, 2], reading(5), "00000100", range(2, 3)),
        ([0], reading(0), "00000000", range(1)),
        ([1], reading(0, 1), "10000000", range(1, 3)),  # from front to back: ever more ahead
        ([], reading(0, 1, 2), "11100000", range(3, 5)),
        ([], reading(0, 1, 2), "11110000", range(4, 5)),  # half of what lies ahead is missing
        ([], reading(0, 1, 2), "11111111", range(0)),  # nothing than half
        ([3], reading(0, 1, 2, 3), "11100100", range(3, 5)),  # up to what is there
        ([], reading(0, 1, 2, 3), "11111111", range(0)),
        ([], reading(0, 1, 2, 3), "11111100", range(6, 8)),
        ([], reading(0, 1, 2, 3), "11111110", range(0)),  # less than half
        ([7], reading(0, 1, 2, 7), "11100000", range(7, 8)),
        ([4], reading(0, 1, 4), "11100000", range(4, 7)),  # pieces of zeros in between are left out
    ],
)
def test_what_is_fetched_next(waited_for: list[int], reader: Reader, there: str, expected: range) -> None:
    assert next_run(waited_for, reader, [int(digit) for digit in there]) == expected


def test_requests_are_few_and_bounded() -> None:
    """A reader from front to back, as fast as the registry: each piece once, in requests that grow."""
    there = bytearray(1000)
    runs = []
    reader = Reader()
    for piece in range(1000):
        reader = reader.moved(range(piece, piece + 1))
        while run := next_run([piece], reader, there):
            runs.append(run)
            there[run.start : run.stop] = b"\1" * len(run)
    assert [index for run in runs for index in run] == list(range(1000))
    assert max(map(len, runs)) <= MOST
    assert len(runs) < 80


@pytest.fixture
def site() -> Iterator[Small]:
    with serving_registry(Small(files={PATH: CONTENT})) as running:
        yield running


@contextmanager
def opened(site: Small, target: Path, digests: bytes = b"", sha256: str = SHA256) -> Iterator[PiecedFile]:
    """Open the file in a registry, as one of a store."""
    whole = target.with_name("whole")
    whole.write_bytes(CONTENT)
    pieces = Pieces(PIECE, BlobRef("0" * 64, 0, 0))
    known = PieceDigests(pieces, digests or digests_of(whole, PIECE), len(CONTENT), Path("file"))
    client = Client(QUICK)
    file = PiecedFile(
        File("arch/file", len(CONTENT), sha256),
        known,
        target,
        Path("registry/store/arch/file"),
        lambda start, stop: part_of(client, site.url + PATH, start, stop, len(CONTENT)),
        QUICK,
        Progress(),
    )
    with closing(client), closing(file):
        yield file


def front_to_back(file: PiecedFile, step: int = 5000) -> bytes:
    return b"".join(file.read(at, min(step, file.size - at)) for at in range(0, file.size, step))


def test_a_look_fetches_little_and_is_kept(site: Small, tmp_path: Path) -> None:
    target = tmp_path / SHA256
    for sent in (3 * PIECE, 0):
        with opened(site, target) as file:
            assert file.read(50 * PIECE + 10, 20) == CONTENT[50 * PIECE + 10 :][:20]
            assert file.read(10 * PIECE - 1, 2) == CONTENT[10 * PIECE - 1 :][:2]
        assert site.sent == sent
        site.sent = 0
    assert not target.exists()


def test_read_from_front_to_back_it_gets_its_name(site: Small, tmp_path: Path) -> None:
    target = tmp_path / SHA256
    with opened(site, target) as file:
        file.read(len(CONTENT) - 10, 10)  # as the seek table is
        assert front_to_back(file) == CONTENT
    assert target.read_bytes() == CONTENT
    assert site.sent == len(CONTENT)
    assert len(site.calls) < 20
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([SHA256, "whole"])


def test_reading_begins_before_all_has_come(site: Small, tmp_path: Path) -> None:
    """The registry sends a part of what was asked for, and the rest when the first part was read."""
    was_read = threading.Event()

    def hold(handler: Handler, data: bytes) -> None:
        first, last = asked(handler)
        assert last + 1 - first == 2 * PIECE
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        handler.send_header("Content-Length", str(last + 1 - first))
        handler.end_headers()
        handler.wfile.write(data[first : first + PIECE])
        handler.wfile.flush()
        assert was_read.wait(20)
        handler.wfile.write(data[first + PIECE : last + 1])

    with opened(site, tmp_path / SHA256) as file:
        file.read(0, 10)
        site.acts[GET] = [hold]
        assert file.read(PIECE, PIECE) == CONTENT[PIECE : 2 * PIECE]
        was_read.set()
        assert front_to_back(file) == CONTENT


def asked(handler: Handler) -> tuple[int, int]:
    """Return the first and the last byte that are asked for."""
    first, last = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
    return first, last


def lying_range(handler: Handler, data: bytes) -> None:
    """Send another range than was asked for, and say so."""
    handler.answer(206, data[:PIECE], Content_Range=f"bytes 0-{PIECE - 1}/{len(data)}")


def lying_bytes(handler: Handler, data: bytes) -> None:
    """Send the beginning of the file, whatever was asked for, as if it was right."""
    first, last = asked(handler)
    handler.answer(206, data[: last + 1 - first], Content_Range=f"bytes {first}-{last}/{len(data)}")


def longer(handler: Handler, data: bytes) -> None:
    """Send more than was asked for."""
    asked = handler.headers["Range"].removeprefix("bytes=")
    handler.answer(206, data, Content_Range=f"bytes {asked}/{len(data)}")


def another_size(handler: Handler, data: bytes) -> None:
    """Say that the file has grown."""
    first, last = asked(handler)
    handler.answer(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data) + 1}")


@pytest.mark.parametrize(
    "acts",
    [
        [without_ranges],
        [server.status(416)],
        [lying_range],
        [lying_bytes],
        [longer],
        [another_size],
        [server.status(503), server.status(429)],
        [drop(PIECE // 2), drop(PIECE + 5), drop(PIECE * 3)],
        [lying_bytes, drop(PIECE * 20)],
    ],
)
def test_registries_that_fail(site: Small, tmp_path: Path, acts: list[Act]) -> None:
    target = tmp_path / SHA256
    with opened(site, target) as file:
        file.read(0, 10)
        site.acts[GET] = list(acts)
        assert file.read(60 * PIECE, PIECE * 4) == CONTENT[60 * PIECE :][: PIECE * 4]
        assert front_to_back(file) == CONTENT
    assert site.acts[GET] == []
    assert target.read_bytes() == CONTENT


def changed(at: int) -> bytes:
    data = bytearray(CONTENT)
    data[at] ^= 1
    return bytes(data)


def test_content_that_changes_between_pieces(site: Small, tmp_path: Path) -> None:
    target = tmp_path / SHA256
    with opened(site, target) as file:
        file.read(0, 10)
        site.files[PATH] = changed(70 * PIECE + 1)
        assert file.read(60 * PIECE, 10) == CONTENT[60 * PIECE :][:10]
        with pytest.raises(StoreDamagedError, match=r"registry/store/arch/file at byte 0x46000: .*Push it again"):
            file.read(70 * PIECE, 10)
    assert not target.exists()
    site.files[PATH] = CONTENT
    with opened(site, target) as file:  # nothing wrong was kept
        assert front_to_back(file) == CONTENT
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("acts", "error", "words"),
    [
        ([server.status(404)], FetchError, "404"),
        ([server.status(503)] * 3, FetchError, "503"),
        ([lying_bytes, server.other(b"short")], MismatchError, "another size"),
    ],
)
def test_what_does_not_come_is_told(
    site: Small, tmp_path: Path, acts: list[Act], error: type[RehydratorError], words: str
) -> None:
    site.acts[GET] = list(acts)
    with opened(site, tmp_path / SHA256) as file:
        for _ in range(2):  # and told again to whoever reads next
            with pytest.raises(error, match=words):
                file.read(PIECE * 3, 10)


def test_pieces_that_do_not_make_the_file(site: Small, tmp_path: Path) -> None:
    target = tmp_path / SHA256
    with opened(site, target, sha256="1" * 64) as file:
        front_to_back(file)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_what_was_damaged_in_the_cache_comes_again(site: Small, tmp_path: Path) -> None:
    target = tmp_path / SHA256
    with opened(site, target) as file:
        file.read(0, PIECE * 3)
    (kept,) = (path for path in tmp_path.iterdir() if path.name.startswith("."))
    with kept.open("r+b") as stream:
        stream.seek(PIECE + 5)
        stream.write(b"torn")
    with opened(site, target) as file:
        assert front_to_back(file) == CONTENT
    assert target.read_bytes() == CONTENT


def test_two_at_once_fetch_nothing_twice(site: Small, tmp_path: Path) -> None:
    target = tmp_path / SHA256
    with opened(site, target) as one, opened(site, target) as two:
        readers = [threading.Thread(target=front_to_back, args=(file,)) for file in (one, two)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert front_to_back(one) == front_to_back(two) == CONTENT
    assert target.read_bytes() == CONTENT
    assert site.sent == len(CONTENT)


def test_closing_does_not_wait(site: Small, tmp_path: Path) -> None:
    site.acts[GET] = [server.stall(10)]
    said: list[BaseException] = []
    client = Client(QUICK)

    def read(file: PiecedFile) -> None:
        try:
            file.read(0, 10)
        except BaseException as error:
            said.append(error)

    with opened(site, tmp_path / SHA256) as file:
        reader = threading.Thread(target=read, args=(file,))
        reader.start()
        assert site.stalled.wait(20)
        file.stop()
        reader.join(20)
        assert [type(error) for error in said] == [Cancelled]
        site.over.set()  # what a store does by shutting the connections
    client.close()


@pytest.mark.parametrize("lay", [lambda path: path.symlink_to("/etc/passwd"), lambda path: path.hardlink_to("whole")])
def test_a_place_that_somebody_laid(
    site: Small, tmp_path: Path, lay: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whole").write_bytes(CONTENT)
    lay(tmp_path / f".{SHA256}.pieces")
    with pytest.raises((RehydratorError, OutputError)), opened(site, tmp_path / SHA256):
        pass


@pytest.mark.parametrize(
    ("size", "digests", "words"),
    [(PIECE, 31, "another number"), (PIECE, 33 * COUNT, "another number"), (0, 0, "impossible"), (1 << 30, 32, "imp")],
)
def test_forged_digests(size: int, digests: int, words: str) -> None:
    with pytest.raises(StoreDamagedError, match=words):
        PieceDigests(Pieces(size, BlobRef("0" * 64, 0, 0)), bytes(digests), len(CONTENT), Path("file"))
