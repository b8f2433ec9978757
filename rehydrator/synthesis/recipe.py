"""The edits that make a wished image of the canonical disk: those that a build would make, in place.

Which files those are follows from the disk. Today's builds write three, the BLS entry, ``console.cfg`` and
``platforms.json``, of which the last is the same for all platforms. Builds of 2022 wrote the console's commands between
marks in ``grub.cfg``, and those before changed the BLS entry alone. On s390x, what zipl writes changes as well. A file
that outgrows its blocks gets others.

Source: osbuild ``stages/org.osbuild.coreos.platform`` and ``org.osbuild.zipl.inst``; coreos-assembler
``src/gf-platformid`` (2021) and ``src/gf-set-platform``.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.boot.platforms import Platforms, PlatformSettings
from rehydrator.boot.zipl.read import has_boot_record
from rehydrator.disk.gpt import Region, read_table
from rehydrator.disk.source import Source, Window
from rehydrator.edits.ext4_inodes import Ext4Inodes, ExtentRow, InodeChange
from rehydrator.edits.ext4_superblock import Ext4Superblock
from rehydrator.edits.fields import Fields
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.grow import Grow
from rehydrator.edits.platform import Platform, PlatformText, known_platforms, platform_texts, texts_with
from rehydrator.edits.table import Edit
from rehydrator.edits.times import Time
from rehydrator.edits.zipl import Zipl
from rehydrator.errors import UnsupportedError, UsageError
from rehydrator.fs.ext4.c_ext4 import Incompat
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.free import free_runs
from rehydrator.fs.probe import magic_of
from rehydrator.manifest.schema import CANONICAL, EditedDisk
from rehydrator.synthesis.wish import Wish

_BOOT = "boot"
_TYPE = "ext4"
_MOMENT = "t0"


class _File(msgspec.Struct, frozen=True):
    """A file that changes: its inode and new content."""

    inode: int
    path: str
    content: bytes


def recipe(base: Source, wish: Wish) -> EditedDisk:
    """Return the edits of ``base``, the canonical disk, that fulfil ``wish``.

    Raises UnsupportedError for a disk whose boot partition does not tell its platform, and UsageError for a size
    below that of the disk.
    """
    if wish.size and wish.size < base.size:
        raise UsageError("a disk can't be made smaller", expected=f"at least {base.size}", actual=wish.size)
    region = _boot_region(base)
    boot = Window(base, *region.extent)
    found = magic_of(boot)
    if found is None or found.type != _TYPE:
        raise UnsupportedError("the boot partition has no ext4", path=region.name, actual=found.type if found else "")
    fs = Ext4(boot)
    if Incompat.RECOVER in fs.geometry.incompat:
        raise UnsupportedError("the journal of the boot partition was not replayed", path=region.name)
    texts = _texts(fs, wish)
    files = list(_changed(fs, texts))
    edits: list[Edit] = [Grow(wish.size)] if wish.size > base.size else []
    edits += _inode_edits(fs, region.name, files, wish.epoch)
    if texts and texts == platform_texts(fs, wish.platform):
        edits += [Platform(region.name, wish.platform)] if files else []
    else:
        edits += [FileContent(region.name, file.inode, file.path, text=file.content.decode()) for file in files]
    if files and has_boot_record(bytes(base.read(0, 512))):
        edits.append(Zipl(region.name))
    return EditedDisk(CANONICAL, edits, [] if wish.epoch is None else [Time(wish.epoch, 0)])


def _boot_region(base: Source) -> Region:
    for region in read_table(base).regions:
        if region.label == _BOOT:
            return region
    raise UnsupportedError("the canonical disk has no boot partition")


def _texts(fs: Ext4, wish: Wish) -> list[PlatformText]:
    known = known_platforms(fs) or Platforms({})
    usual = known.settings(wish.platform)
    wanted = PlatformSettings(
        kernel_arguments=usual.kernel_arguments + wish.arguments,
        grub_commands=usual.grub_commands if wish.console is None else wish.console,
    )
    texts = texts_with(fs, known, wish.platform, wanted)
    if not texts:
        raise UnsupportedError("the boot entries of the canonical disk do not tell its platform")
    return texts


def _changed(fs: Ext4, texts: list[PlatformText]) -> Iterator[_File]:
    for text in texts:
        inode = fs.lookup(text.path)
        if inode is not None and fs.read_file(inode, 1 << 20) != text.content:
            yield _File(inode, text.path, text.content)


def _inode_edits(fs: Ext4, partition: str, files: list[_File], epoch: int | None) -> Iterator[Edit]:
    """Yield what changes in inodes, and the count of free blocks that follows."""
    moment: Fields = {} if epoch is None else {"i_mtime": _MOMENT, "i_ctime": _MOMENT}
    changes: list[InodeChange] = []
    taken: list[range] = []
    more = 0
    for file in files:
        size = fs.geometry.block_size
        had = sum(run.count for run in fs.block_map(fs.inode(file.inode)).runs)
        needs = max(-(-len(file.content) // size), had)
        fields, extents = dict(moment), None
        if needs > had:
            blocks = _free_blocks(fs, needs, taken)
            taken.append(blocks)
            more += needs - had
            extents = [ExtentRow(0, needs, blocks.start)]
            fields["i_blocks_lo"] = fs.inode(file.inode).disk.i_blocks_lo + (needs - had) * (size // 512)
        if fields or extents:
            changes.append(InodeChange(file.inode, file.path, fields, extents))
    if changes:
        yield Ext4Inodes(partition, changes)
    if more:
        free = fs.superblock.s_free_blocks_count_lo - more
        yield Ext4Superblock(partition, {"s_free_blocks_count_lo": free})


def _free_blocks(fs: Ext4, count: int, taken: list[range]) -> range:
    """Return the first run of free blocks that is long enough, in groups that have a bitmap already."""
    first, last = fs.geometry.first_data_block, fs.geometry.blocks_count
    for run in free_runs(fs, first, last):
        if not run.free or fs.block_bitmap(fs.groups[run.group]) is None:
            continue
        start = max([run.start, *(blocks.stop for blocks in taken if run.start <= blocks.start < run.end)])
        if run.end - start >= count:
            return range(start, start + count)
    raise UnsupportedError("the boot partition has no room for the new files", expected=f"{count} free blocks")
