"""Commands by which a person can check a finding with other tools."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePath

from rehydrator.explain.owners import DiskOwners, Owner
from rehydrator.explain.peel import Opened
from rehydrator.fs.place import Kind

_UNCOMPRESS = {"xz": "xz -dc", "gzip": "gzip -dc", "zip": "unzip -p"}
_EXT4_WHOLE = {
    Kind.SUPERBLOCK: "show_super_stats -h",
    Kind.GROUP_DESCRIPTOR: "show_super_stats",
    Kind.BLOCK_BITMAP: "show_super_stats",
    Kind.INODE_BITMAP: "show_super_stats",
}
_XFS_TYPES = {Kind.SUPERBLOCK: "sb", Kind.AGF: "agf", Kind.AGI: "agi", Kind.AGFL: "agfl"}


def preparation(letter: str, side: Opened) -> Iterator[str]:
    """Yield the commands that make ``<letter>.raw``, the raw disk of one side, from its file."""
    file = shlex.quote(side.name)
    inner = file
    made = side.fetch or (f"{_UNCOMPRESS[side.compression]} {file}" if side.compression != "none" else "")
    if made:
        inner = f"{letter}.{side.containers[0].format}" if side.containers else f"{letter}.raw"
        yield f"{made} > {inner}"
    if side.containers:
        yield f"qemu-img convert -f {side.containers[0].format} -O raw {inner} {letter}.raw"
    elif not made:
        yield f"ln -s {file} {letter}.raw"


def partition_file(region: str) -> str:
    """Name the file that one partition of disk B is copied to for tools that can't look into a disk."""
    return f"B.{PurePath(region.split(maxsplit=1)[0]).name}.img"


def extraction(owners: DiskOwners) -> Iterator[str]:
    """Yield the commands that copy the XFS partitions of B out of its disk."""
    for region in owners.partitions:
        filesystem = owners.filesystem(region)
        if filesystem is not None and filesystem.type == "xfs":
            place = f"skip={region.extent.offset} count={region.extent.length}"
            yield (
                f"dd if=B.raw of={partition_file(region.name)} bs=1M iflag=skip_bytes,count_bytes {place} conv=sparse"
            )


def command(filesystem: str, owner: Owner, offset: int, length: int) -> str:
    """Return a command that shows the owner, or at least the bytes at ``offset`` on both sides."""
    base = owner.region.extent.offset
    if filesystem == "ext4":
        request = _debugfs(owner)
        if request:
            return f"debugfs -R {shlex.quote(request)} 'B.raw?offset={base}'"
    if filesystem == "xfs":
        request = _xfs_db(owner)
        if request:
            return f"xfs_db -r -c {shlex.quote(request)} -c print {partition_file(owner.region.name)}"
        if owner.structure.startswith("log"):
            return f"xfs_logprint -t {partition_file(owner.region.name)}"
    return f"cmp -l -i {offset:#x} -n {length} A.raw B.raw"


def _debugfs(owner: Owner) -> str:
    if owner.structure in (Kind.INODE, Kind.EXTENT_BLOCK, Kind.XATTR_BLOCK):
        return f"stat <{owner.number}>"
    if owner.structure == Kind.DIRECTORY:
        return f"ls -l <{owner.number}>"
    if owner.structure in (Kind.FILE_DATA, Kind.SYMLINK):
        return f"cat <{owner.number}>"
    if owner.structure.startswith("journal"):
        return "logdump -a"
    return _EXT4_WHOLE.get(Kind(owner.structure), "") if owner.structure in set(Kind) else ""


def _xfs_db(owner: Owner) -> str:
    if owner.structure in (Kind.INODE, Kind.FILE_DATA, Kind.DIRECTORY, Kind.SYMLINK, Kind.XATTR_BLOCK):
        return f"inode {owner.number}"
    kind = _XFS_TYPES.get(Kind(owner.structure), "") if owner.structure in set(Kind) else ""
    return f"{kind} {owner.number}" if kind else ""
