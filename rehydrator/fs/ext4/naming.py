"""Names and paths of what a file system holds, for people to read."""

from __future__ import annotations

from rehydrator.fs.ext4.c_ext4 import ReservedInode
from rehydrator.fs.ext4.ext4 import Ext4
from rehydrator.fs.ext4.scan import InodeState, Scan
from rehydrator.fs.ext4.segments import Segment, SegmentMap, Tag

_SPECIAL: dict[int, str] = {
    ReservedInode.BAD: "bad blocks",
    ReservedInode.ROOT: "",
    ReservedInode.USR_QUOTA: "user quota",
    ReservedInode.GRP_QUOTA: "group quota",
    ReservedInode.BOOT_LOADER: "boot loader",
    ReservedInode.UNDEL_DIR: "undelete directory",
    ReservedInode.RESIZE: "resize",
    ReservedInode.JOURNAL: "journal",
    ReservedInode.EXCLUDE: "exclude",
    ReservedInode.REPLICA: "replica",
}
_STATE: dict[int, str] = {
    InodeState.UNUSED: "unused inode",
    InodeState.USED: "inode",
    InodeState.DELETED: "deleted inode",
    InodeState.ORPHAN: "unlinked inode",
    InodeState.UNMARKED: "inode",
}


class Names:
    """Paths of inodes and descriptions of blocks."""

    def __init__(self, fs: Ext4, scan: Scan, segments: SegmentMap) -> None:
        self._fs = fs
        self._scan = scan
        self._segments = segments
        self._paths: dict[int, str] = {ReservedInode.ROOT: ""}

    def path(self, ino: int) -> str:
        """Path of an inode, "" for one without a name; a file with several names has the one found first.

        Bytes of a name that are not UTF-8 are shown as backslash escapes.
        """
        if ino == ReservedInode.ROOT:
            return "/"
        chain: list[tuple[int, str]] = []
        at = ino
        while at not in self._paths:
            parent = self._scan.parents.get(at)
            if parent is None or len(chain) > len(self._scan.directories):
                return ""  # not linked, or directories that contain each other
            chain.append((at, parent[1].decode("utf-8", "backslashreplace")))
            at = parent[0]
        path = self._paths[at]
        directories = len(chain) - 1
        for index, (number, name) in enumerate(reversed(chain)):
            path = f"{path}/{name}"
            if index < directories:
                self._paths[number] = path
        return path

    def inode(self, ino: int) -> str:
        """Name of an inode with its state."""
        special = _SPECIAL.get(ino, "") if ino < self._fs.geometry.first_ino else ""
        if special:
            return f"inode {ino} ({special})"
        if ino == self._fs.superblock.s_orphan_file_inum:
            return f"inode {ino} (orphan file)"
        return f"{_STATE[self._scan.states[ino]]} {ino}"

    def table_inodes(self, segment: Segment, block: int) -> tuple[int, int]:
        """First and last inode in ``block`` of an inode table."""
        geometry = self._fs.geometry
        per_block = geometry.block_size // geometry.inode_size
        index = (segment.logical + block - segment.start) * per_block
        last = min(index + per_block, geometry.inodes_per_group)
        base = segment.number * geometry.inodes_per_group
        return base + index + 1, base + last

    def block(self, block: int) -> str:
        """Describe a file system block, with its number and what it belongs to."""
        segment = self._segments.at(block)
        return f"free block {block}" if segment is None else self._describe(block, segment)

    def path_of_block(self, block: int) -> str:
        """Path of the file, directory or symlink that owns a block, "" for other blocks."""
        segment = self._segments.at(block)
        return self.path(segment.number) if segment is not None and segment.tag in _OF_INODE else ""

    def _describe(self, block: int, segment: Segment) -> str:
        geometry = self._fs.geometry
        tag, number = segment.tag, segment.number
        if tag == Tag.INODE_TABLE:
            first, last = self.table_inodes(segment, block)
            return f"inode table block {block} (inodes {first}-{last})"
        if tag in (Tag.GROUP_DESC, Tag.BACKUP_GROUP_DESC):
            first = segment.logical * geometry.descs_per_block
            last = min(first + geometry.descs_per_block, geometry.group_count) - 1
            kind = "group descriptor block" if tag == Tag.GROUP_DESC else "backup group descriptor block"
            return f"{kind} {block} (groups {first}-{last})"
        if tag in _OF_GROUP:
            return f"{_OF_GROUP[Tag(tag)]} {block} (group {number})"
        if tag in _ALONE:
            return f"{_ALONE[Tag(tag)]} (block {block})"
        return f"{_OF_INODE[Tag(tag)]} {block} of {self.path(number) or self.inode(number)}"


_OF_GROUP = {
    Tag.BACKUP_SUPER: "backup superblock",
    Tag.RESERVED_GDT: "reserved group descriptor block",
    Tag.BLOCK_BITMAP: "block bitmap",
    Tag.INODE_BITMAP: "inode bitmap",
}
_ALONE = {Tag.BOOT: "boot block", Tag.SUPER: "superblock", Tag.MMP: "multi-mount protection block"}
_OF_INODE = {
    Tag.JOURNAL: "journal block",
    Tag.ORPHAN_FILE: "orphan file block",
    Tag.EXTENT_BLOCK: "extent block",
    Tag.INDIRECT_BLOCK: "indirect block",
    Tag.XATTR: "xattr block",
    Tag.DIRECTORY: "directory block",
    Tag.SYMLINK: "symlink block",
    Tag.DATA: "data block",
    Tag.UNWRITTEN: "unwritten block",
    Tag.BAD: "bad block",
}
