"""The xz layer on files that the real xz wrote: exact both ways, damage named."""

from __future__ import annotations

import lzma
import random
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrator.codecs import c_xz, lzma2
from rehydrator.codecs.c_xz import Check, IndexRecord
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import CorruptError, MismatchError, OutputError, RehydratorError, UnsupportedError
from rehydrator.layers.table import format_of
from rehydrator.layers.xz import XzLayer
from rehydrator.layers.xz_read import read_layout
from rehydrator.layers.xz_record import CheckName, XzRecord
from tests.support.containers import check_complete
from tests.support.disks import MIB, random_sparse
from tests.test_deflate import text

LAYER = XzLayer()
PATH = Path("x.xz")
CONTENT = text(1, 200_000) + random_sparse(1, MIB + 77, 0.1) + bytes(MIB) + text(2, 20_000)


def content(source: Source) -> bytes:
    return bytes(source.read(0, source.size))


def by_program(data: bytes, *options: str) -> bytes:
    return subprocess.run(["xz", "-c", *options], input=data, check=True, capture_output=True).stdout


def exact(data: bytes) -> tuple[XzRecord, Source]:
    found = format_of(BytesSource(data))
    assert found is not None
    assert found.name == "xz"
    unwrapped = LAYER.unwrap(BytesSource(data), PATH)
    record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=XzRecord)
    wrapped = LAYER.wrap(BytesSource(content(unwrapped.inner)), record)
    assert content(wrapped) == data
    return record, unwrapped.inner


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("preset", "threads"), [*((preset, "-T1") for preset in "0123456789"), ("6e", "-T1"), ("3e", "-T2"), ("9", "-T2")]
)
def test_presets(preset: str, threads: str) -> None:
    data = by_program(CONTENT, f"-{preset}", threads)
    record, inner = exact(data)
    assert content(inner) == CONTENT
    assert inner.nonzero() == BytesSource(CONTENT).nonzero()
    assert record.encoder == f"liblzma-{preset}"
    assert bool(record.sizes) == (threads == "-T2")
    assert len(msgspec.json.encode(record)) < 100 + 8 * len(record.sizes)


@pytest.mark.oracle
@pytest.mark.parametrize("threads", ["-T1", "-T2"])
@pytest.mark.parametrize(
    ("size", "check"), [("256KiB", "none"), ("300001", "crc32"), ("1MiB", "crc64"), ("40MiB", "sha256")]
)
def test_blocks_and_checks(threads: str, check: str, size: str) -> None:
    data = by_program(CONTENT, "-1", threads, f"--block-size={size}", f"--check={check}")
    record, _ = exact(data)
    assert record.check == check


@pytest.mark.oracle
@pytest.mark.parametrize("held", [b"", b"a", bytes(5000), bytes(range(256))], ids=len)
@pytest.mark.parametrize("options", [["-9", "-T1"], ["-9", "-T2"], ["-0", "-T2", "--block-size=1"]], ids=" ".join)
def test_short_content(held: bytes, options: list[str]) -> None:
    if "--block-size=1" in options and len(held) > 300:
        held = held[:300]
    record, inner = exact(by_program(held, *options))
    assert content(inner) == held
    assert record.block_size == (1 if "--block-size=1" in options and len(held) > 1 else 0)


@settings(max_examples=25)
@given(st.binary(max_size=3000), st.sampled_from(sorted(lzma2.NAMES)), st.sampled_from(Check))
def test_any_content_of_one_block(held: bytes, name: str, check: Check) -> None:
    data = lzma.compress(held, check=check, preset=lzma2.encoder(name).preset)
    record, inner = exact(data)
    assert content(inner) == held
    assert lzma2.encoder(record.encoder).dictionary_size == lzma2.encoder(name).dictionary_size or not held


@settings(max_examples=25)
@given(
    st.binary(min_size=2, max_size=2000),
    st.integers(1, 700),
    st.booleans(),
    st.sampled_from(["crc32", "sha256", "none"]),
)
def test_any_cut_into_blocks(held: bytes, size: int, sized: bool, check: CheckName) -> None:
    """Files that this code wrote are read by liblzma, and read again as what they are."""
    kind = Check[check.upper()]
    pieces = [held[at : at + size] for at in range(0, len(held), size)]
    blocks = [lzma2.encoder("liblzma-1").whole_block(piece, kind) for piece in pieces]
    index = [IndexRecord(20 + len(block), len(piece)) for block, piece in zip(blocks, pieces, strict=True)]
    record = XzRecord(
        file_size=sum(item.unpadded_size + 3 & ~3 for item in index) + len(c_xz.pack_index(index)) + 24,
        encoder="liblzma-1",
        check=check,
        block_size=size,
        header_size=20,
        sizes=[len(block) - kind.size for block in blocks] if sized else [],
    )
    data = content(LAYER.wrap(BytesSource(held), record))
    assert lzma.decompress(data) == held
    again, _ = exact(data)
    assert again == (record if len(blocks) > 1 else msgspec.structs.replace(record, block_size=0))


def test_reads_of_any_piece() -> None:
    data = by_program(CONTENT, "-1", "-T2", "--block-size=256KiB")
    record, _ = exact(data)
    wrapped = LAYER.wrap(BytesSource(CONTENT), record)
    order = random.Random(1)
    for _ in range(15):
        at = order.randrange(len(data))
        length = min(order.choice([1, 100, 5000, 300_000]), len(data) - at)
        assert bytes(wrapped.read(at, length)) == data[at : at + length]


class _Counted:
    """Counts what an encoder is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks = 0
        real = lzma2.Encoder.block

        def block(encoder: lzma2.Encoder, *arguments: object) -> lzma2.BlockData:
            self.blocks += 1
            return real(encoder, *arguments)  # type: ignore[arg-type]  # passed on as they are

        monkeypatch.setattr(lzma2.Encoder, "block", block)


def test_a_block_is_encoded_once_to_be_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Siblings share most blocks; a shipped one with other bytes is noticed all the same."""
    layer = XzLayer()
    sibling = bytearray(CONTENT)
    sibling[300_000] ^= 1
    first, second = (by_program(data, "-1", "-T2", "--block-size=256KiB") for data in (CONTENT, bytes(sibling)))
    assert first != second
    counted = _Counted(monkeypatch)
    layer.recognise(BytesSource(first), BytesSource(CONTENT), PATH)
    distinct = {CONTENT[at : at + (1 << 18)] for at in range(0, len(CONTENT), 1 << 18)}
    assert counted.blocks == len(distinct) < len(read_layout(BytesSource(first), PATH).blocks)
    counted.blocks = 0
    layer.recognise(BytesSource(second), BytesSource(bytes(sibling)), PATH)
    assert counted.blocks == 1
    damaged = bytearray(second)
    damaged[read_layout(BytesSource(second), PATH).blocks[0].at + 5000] ^= 1
    with pytest.raises(UnsupportedError, match="unknown encoder"):
        layer.recognise(BytesSource(bytes(damaged)), BytesSource(bytes(sibling)), PATH)


def test_a_damaged_block_says_nothing_about_other_files() -> None:
    layer = XzLayer()
    good = by_program(CONTENT, "-1", "-T2", "--block-size=256KiB")
    damaged = bytearray(good)
    damaged[read_layout(BytesSource(good), PATH).blocks[1].at + 5000] ^= 1
    with pytest.raises(UnsupportedError, match="unknown encoder"):
        layer.recognise(BytesSource(bytes(damaged)), BytesSource(CONTENT), PATH)
    record = layer.recognise(BytesSource(good), BytesSource(CONTENT), PATH)
    assert content(layer.wrap(BytesSource(CONTENT), record)) == good


def test_zeros_are_encoded_once_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = exact(by_program(bytes(5 << 18), "-1", "-T2", "--block-size=256KiB"))
    counted = _Counted(monkeypatch)
    content(LAYER.wrap(BytesSource(bytes(5 << 18)), record))
    assert counted.blocks <= 1


def test_other_settings_are_refused_by_name() -> None:
    cases = {
        "unknown encoder": [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0}],
        "filters besides LZMA2": [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}],
    }
    for words, filters in cases.items():
        data = lzma.compress(text(6, 9000), filters=filters)
        with pytest.raises(UnsupportedError, match=words) as caught:
            LAYER.unwrap(BytesSource(data), PATH)
        check_complete(caught.value, PATH)


def test_an_unused_size_of_dictionary_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 16}]
    with pytest.raises(UnsupportedError, match="unknown encoder"):
        LAYER.unwrap(BytesSource(lzma.compress(b"abc", filters=filters)), PATH)


def parts(held: bytes = b"abc" * 1000) -> tuple[bytes, bytes, bytes, bytes]:
    """A small file in parts: stream header, block, index, footer."""
    data = lzma.compress(held)
    index = c_xz.index_size(c_xz.StreamFooter.parse(data[-12:]))
    return data[:12], data[12 : -12 - index], data[-12 - index : -12], data[-12:]


def test_damage_is_named() -> None:
    head, block, index, foot = parts()
    good = head + block + index + foot
    (record,) = c_xz.parse_index(index)

    def lying(*records: IndexRecord) -> bytes:
        told = c_xz.pack_index(list(records))
        return head + block + told + c_xz.stream_footer(Check.CRC64, len(told))

    longer = msgspec.structs.replace(record, unpadded_size=record.unpadded_size + 4)
    fuller = msgspec.structs.replace(record, uncompressed_size=record.uncompressed_size + 1)
    cases: list[tuple[bytes, type[RehydratorError], str]] = [
        (good[:5], CorruptError, "cut short"),
        (b"\xfd7zXZ\1" + good[6:], CorruptError, "wrong magic"),
        (good[:8] + b"x" + good[9:], CorruptError, "header does not fit its own CRC32"),
        (good[:7] + b"\x02" + good[8:], UnsupportedError, "unknown kind of check"),
        (good[:-1], CorruptError, "footer is not there"),
        (good[:-20], CorruptError, "footer is not there"),
        (good + b"x", CorruptError, "footer is not there"),
        (good + bytes(4), CorruptError, "footer is not there"),
        (good + good, UnsupportedError, "several streams"),
        (good[:-8] + b"\xff" + good[-7:], CorruptError, "footer does not fit"),
        (head + block + index[:-1] + bytes([index[-1] ^ 1]) + foot, CorruptError, "CRC32 of the xz index"),
        (head + block[:-60] + index + foot, CorruptError, "index tells of other blocks"),
        (lying(longer), CorruptError, "index tells of other blocks"),
        (lying(record, record), CorruptError, "index tells of other blocks"),
        (lying(), CorruptError, "index tells of other blocks"),
        (lying(fuller), CorruptError, "stream is damaged"),
        (lying(IndexRecord(record.unpadded_size, 0)), CorruptError, "impossible size"),
        (head + block[:1] + b"\x04" + block[2:] + index + foot, CorruptError, "CRC32 of the xz block header"),
        (good[:40] + b"\xff" * 9 + good[49:], CorruptError, "stream is damaged"),
    ]
    for data, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            LAYER.unwrap(BytesSource(data), PATH)
        check_complete(caught.value, PATH)


def test_a_block_header_that_lies() -> None:
    data = by_program(CONTENT, "-1", "-T2")
    (block,) = read_layout(BytesSource(data), PATH).blocks[:1]
    header = c_xz.parse_block_header(data[12 : block.at])
    assert header is not None
    forged = c_xz.pack_block_header(msgspec.structs.replace(header, uncompressed_size=block.content_size + 1))
    with pytest.raises(CorruptError, match="different sizes"):
        LAYER.unwrap(BytesSource(data[:12] + forged + data[block.at :]), PATH)


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    """The index tells the content's size: liblzma stops where a block holds more, and a lying size is compared."""
    head, block, _, _ = parts(bytes(16 * MIB))
    records = [IndexRecord(12 + len(block) - 12 - c_xz.padding(0), 5)]
    index = c_xz.pack_index(records)
    data = head + block + index + c_xz.stream_footer(Check.CRC64, len(index))
    with pytest.raises(CorruptError):
        LAYER.unwrap(BytesSource(data), PATH)


@pytest.mark.parametrize(
    "changes",
    [
        {"file_size": -1}, {"file_size": 1 << 60}, {"block_size": -1}, {"block_size": 1}, {"header_size": 8},
        {"header_size": 1 << 40}, {"header_size": 13}, {"header_size": 15}, {"sizes": [1, 2]}, {"sizes": [-1]},
    ],
    ids=str,
)  # fmt: skip
def test_forged_records(changes: dict[str, object]) -> None:
    held = bytes(1 << 18)
    record = msgspec.structs.replace(LAYER.unwrap(BytesSource(lzma.compress(held)), PATH).record, **changes)
    with pytest.raises(MismatchError):
        content(LAYER.wrap(BytesSource(held), record))


@pytest.mark.parametrize("change", [-50, -4, 4, 50, 5_000_000])
def test_a_content_that_does_not_belong_to_the_record(change: int) -> None:
    record, inner = exact(by_program(text(8), "-1"))
    forged = msgspec.structs.replace(record, file_size=record.file_size + change)
    with pytest.raises(MismatchError, match="recorded size"):
        content(LAYER.wrap(inner, forged))


@pytest.mark.parametrize("name", ["", "liblzma", "liblzma-", "liblzma-10", "7zip-9", "liblzma-9ee"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="unknown LZMA2 encoder"):
        LAYER.wrap(BytesSource(b"x"), XzRecord(100, name))


def test_too_little_memory_for_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    encoder = lzma2.encoder("liblzma-9")
    monkeypatch.setattr(lzma, "LZMACompressor", refuse)
    with pytest.raises(OutputError, match="no memory for liblzma's encoder at preset 9"):
        encoder.whole_block(b"x", Check.CRC64)


def test_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lzma2, "known_answer", lambda _: 0)
    with pytest.raises(UnsupportedError, match="liblzma compresses otherwise") as caught:
        lzma2.encoder.__wrapped__("liblzma-9")
    assert "liblzma 5" in str(caught.value.hint)


@pytest.mark.parametrize("seed", range(2))
def test_no_flip_gets_through(seed: int) -> None:
    original = by_program(text(seed, 600) + bytes(5000), "-0", "-T2", "--block-size=3000")
    order = random.Random(seed)
    refused = 0
    for _ in range(250):
        data = bytearray(original)
        at = order.choice([order.randrange(40), len(data) - 1 - order.randrange(80), order.randrange(len(data))])
        data[at] = order.choice([0, 0xFF, data[at] ^ 1 << order.randrange(8)])
        try:
            unwrapped = LAYER.unwrap(BytesSource(bytes(data)), PATH)
            assert content(LAYER.wrap(unwrapped.inner, unwrapped.record)) == data
        except RehydratorError:
            refused += 1
    assert refused > 150
