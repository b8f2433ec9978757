"""Hash trees of dm-verity: what is computed is what veritysetup writes."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import BytesSource
from rehydrator.errors import StoreDamagedError
from rehydrator.relocation.c_verity import VeritySuperblock
from rehydrator.relocation.verity import HashTree, TreeSource, find_trees, with_trees, without_trees
from tests.support.disks import MIB, random_sparse, with_gpt

pytestmark = pytest.mark.oracle
KIB = 1024
DATA, TREE, OTHER = (1024, 2048), (2048, 2560), (2560, 3584)  # KiB


def formatted(data: bytes, work: Path, *options: str) -> bytes:
    """Return the hash device that veritysetup makes for ``data``."""
    if shutil.which("veritysetup", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("missing: veritysetup (cryptsetup-bin)")
    (work / "data").write_bytes(data)
    (work / "tree").write_bytes(b"")
    argv: list[str | Path] = ["/usr/sbin/veritysetup", "format", work / "data", work / "tree", *options]
    subprocess.run(argv, check=True, capture_output=True)
    return (work / "tree").read_bytes()


def computed(tree: bytes, data: bytes) -> TreeSource:
    return TreeSource(VeritySuperblock.parse(tree[: VeritySuperblock.SIZE]), BytesSource(data))


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (4096, []),
        (8192, []),
        (3 * MIB, ["--data-block-size", "512"]),
        (3 * MIB + 512, ["--data-block-size", "512"]),
        (MIB, ["--data-block-size", "512", "--hash-block-size", "512"]),
        (640 * KIB, ["--hash-block-size", "1024", "--salt", "-"]),
        (640 * KIB, ["--salt", "ab" * 256]),
    ],
)
def test_trees_are_those_of_veritysetup(size: int, options: list[str], tmp_path: Path) -> None:
    data = random_sparse(size, size, 0.3)
    tree = formatted(data, tmp_path, *options)
    source = computed(tree, data)
    hash_block = VeritySuperblock.parse(tree[: VeritySuperblock.SIZE]).hash_block_size
    expected = tree[hash_block:]
    assert bytes(source.read(0, source.size)) == expected
    order = random.Random(size)
    for _ in range(20):
        at = order.randrange(source.size + 1)
        length = order.randrange(source.size - at + 1)
        assert bytes(source.read(at, length)) == expected[at : at + length]


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    """A disk with data, the tree of them, and other data."""
    content = bytearray(random_sparse(3, 4 * MIB, 0.4))
    data = bytes(content[DATA[0] * KIB : DATA[1] * KIB])
    tree = formatted(data, tmp_path, "--data-block-size", "512")
    content[TREE[0] * KIB : TREE[1] * KIB] = tree.ljust((TREE[1] - TREE[0]) * KIB, b"\0")
    return with_gpt(bytes(content), [(1, "other", *OTHER), (3, "boot", *DATA), (5, "boothash", *TREE)])


def trees_of(disk: bytes) -> list[HashTree]:
    return find_trees(BytesSource(disk), read_table(BytesSource(disk)))


def test_trees_are_found_taken_off_and_laid_over(disk: bytes) -> None:
    trees = trees_of(disk)
    assert trees == [HashTree(TREE[0] * KIB, DATA[0] * KIB)]
    bare = without_trees(BytesSource(disk), trees)
    without = bytes(bare.read(0, bare.size))
    tree = slice(TREE[0] * KIB + 4096, TREE[1] * KIB)
    assert without == disk[: tree.start] + bytes(tree.stop - tree.start) + disk[tree.stop :]
    again = with_trees(BytesSource(without), trees)
    assert bytes(again.read(0, again.size)) == disk
    assert again.nonzero() == BytesSource(disk).nonzero()


@pytest.mark.parametrize("at", [DATA[1] * KIB - 1, TREE[0] * KIB + 4096, TREE[0] * KIB + 3 * 4096])
def test_a_tree_that_does_not_follow_from_the_data_is_content(disk: bytes, at: int) -> None:
    damaged = bytearray(disk)
    damaged[at] ^= 1
    assert trees_of(bytes(damaged)) == []


SUPERBLOCK = TREE[0] * KIB


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signature", b"verify"),
        ("version", 2),
        ("hash_type", 0),
        ("algorithm", b"sha512"),
        ("data_block_size", 513),
        ("data_block_size", 1 << 31),
        ("hash_block_size", 0),
        ("data_blocks", 1 << 60),
        ("data_blocks", 1 << 30),
        ("salt_size", 257),
    ],
)
def test_forged_superblocks(disk: bytes, field: str, value: int | bytes) -> None:
    forged = bytearray(disk)
    offset = VeritySuperblock.offset_of(field)
    size = next(span.size for span in VeritySuperblock.FIELDS if span.name == field)
    packed = value.ljust(size, b"\0") if isinstance(value, bytes) else value.to_bytes(size, "little")
    forged[SUPERBLOCK + offset : SUPERBLOCK + offset + size] = packed
    assert trees_of(bytes(forged)) == []
    with pytest.raises(StoreDamagedError, match="hash tree"):
        with_trees(BytesSource(bytes(forged)), [HashTree(SUPERBLOCK, DATA[0] * KIB)])


@pytest.mark.parametrize(
    "trees",
    [
        [HashTree(-1, 0)],
        [HashTree(1 << 62, 0)],
        [HashTree(SUPERBLOCK, -1)],
        [HashTree(SUPERBLOCK, 4 * MIB - 512)],
        [HashTree(0, 0)],
        [HashTree(SUPERBLOCK, 0), HashTree(SUPERBLOCK, 0)],
    ],
)
def test_forged_trees(disk: bytes, trees: list[HashTree]) -> None:
    with pytest.raises(StoreDamagedError):
        with_trees(BytesSource(disk), trees)


def test_a_tree_that_leaves_the_disk(disk: bytes) -> None:
    end = len(disk) - 512
    moved = disk[:end] + disk[SUPERBLOCK : SUPERBLOCK + 512]
    with pytest.raises(StoreDamagedError, match="impossible segment table"):
        with_trees(BytesSource(moved), [HashTree(end, DATA[0] * KIB)])


def test_trees_over_too_much_data() -> None:
    class Huge(BytesSource):
        """Claims to have no end."""

        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self.size = 1 << 60

    superblock = VeritySuperblock(
        signature=b"verity\0\0", version=1, hash_type=1, uuid=b"", algorithm=b"sha256", data_block_size=4096,
        hash_block_size=4096, data_blocks=1 << 40, salt_size=0, _pad1=b"", salt=b"", _pad2=b"",
    )  # fmt: skip
    with pytest.raises(StoreDamagedError, match="too large"):
        with_trees(Huge(superblock.pack()), [HashTree(0, 0)])
