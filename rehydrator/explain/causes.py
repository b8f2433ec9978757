"""The closed vocabulary of causes, and which structure and field stands for which cause.

docs/report.md describes every cause; a test keeps the two together.
"""

from __future__ import annotations

import enum
import re

import msgspec

from rehydrator.boot.zipl import layout as zipl
from rehydrator.fs.iso9660.hfsplus import PARTITION_MAP
from rehydrator.fs.place import Kind
from rehydrator.live import embed


class Cause(enum.StrEnum):
    """Why bytes differ. Bytes that follow from others are told as ``checksum-of:<structure>`` beside their cause."""

    FILE_CONTENT = "file-content"
    FILE_METADATA = "file-metadata"
    DIR_ENTRY = "dir-entry"
    INODE_TIMESTAMP = "inode-timestamp"
    SUPERBLOCK_STAMP = "superblock-stamp"
    JOURNAL = "journal"
    ALLOCATION = "allocation"
    BOOTMAP = "bootmap"
    PARTITION_TABLE = "partition-table"
    GPT_BACKUP_MOVED = "gpt-backup-moved"
    CONTAINER_HEADER = "container-header"
    COMPRESSION = "compression"
    PADDING = "padding"
    UNREAD = "unread"
    UNKNOWN = "unknown"


UNEXPLAINED = frozenset({Cause.UNREAD, Cause.UNKNOWN})
CHECKSUM = "checksum-of:"

# structures that are not of a file system
BOOT_CODE = "boot code"
MBR_TABLE = "MBR partition table"
GPT_HEADER = "GPT header"
GPT_ENTRY = "GPT partition entry"
BACKUP_GPT_HEADER = "backup GPT header"
BACKUP_GPT_ENTRY = "backup GPT partition entry"
BOOT_PARTITION = "boot loader"
OUTSIDE = "outside of partitions"
UNREAD_VOLUME = "volume without a reader"

BACKUP_GPT = frozenset({BACKUP_GPT_HEADER, BACKUP_GPT_ENTRY})

# What owns nothing worth telling: the other image's owner of the same bytes says more.
IDLE = frozenset({Kind.FREE, Kind.SLACK, Kind.JOURNAL_STALE, Kind.LOG_STALE, Kind.UNKNOWN, OUTSIDE})

_BY_STRUCTURE: dict[str, Cause] = (
    {
        BOOT_CODE: Cause.BOOTMAP,
        BOOT_PARTITION: Cause.BOOTMAP,
        MBR_TABLE: Cause.PARTITION_TABLE,
        PARTITION_MAP: Cause.PARTITION_TABLE,
        GPT_HEADER: Cause.PARTITION_TABLE,
        GPT_ENTRY: Cause.PARTITION_TABLE,
        BACKUP_GPT_HEADER: Cause.PARTITION_TABLE,
        BACKUP_GPT_ENTRY: Cause.PARTITION_TABLE,
        OUTSIDE: Cause.PADDING,
        UNREAD_VOLUME: Cause.UNREAD,
        Kind.UNREAD: Cause.UNREAD,
        Kind.BOOT_SECTOR: Cause.SUPERBLOCK_STAMP,
        Kind.SUPERBLOCK: Cause.SUPERBLOCK_STAMP,
        Kind.BACKUP_SUPERBLOCK: Cause.SUPERBLOCK_STAMP,
        Kind.INODE: Cause.FILE_METADATA,
        Kind.XATTR_BLOCK: Cause.FILE_METADATA,
        Kind.MEMBER_HEADER: Cause.FILE_METADATA,
        Kind.DIRECTORY: Cause.DIR_ENTRY,
        Kind.SYSTEM_AREA: Cause.BOOTMAP,
        Kind.VOLUME_DESCRIPTOR: Cause.SUPERBLOCK_STAMP,
        Kind.BOOT_CATALOG: Cause.BOOTMAP,
        Kind.SYMLINK: Cause.FILE_CONTENT,
        Kind.FILE_DATA: Cause.FILE_CONTENT,
        Kind.FREE: Cause.PADDING,
        Kind.SLACK: Cause.PADDING,
        Kind.UNKNOWN: Cause.UNKNOWN,
    }
    | dict.fromkeys(
        (
            Kind.GROUP_DESCRIPTOR,
            Kind.BACKUP_GROUP_DESCRIPTOR,
            Kind.RESERVED_GDT,
            Kind.BLOCK_BITMAP,
            Kind.INODE_BITMAP,
            Kind.EXTENT_BLOCK,
            Kind.AGF,
            Kind.AGI,
            Kind.AGFL,
            Kind.BTREE_BLOCK,
            Kind.FAT,
            Kind.PATH_TABLE,
            Kind.LOOKUP_TABLE,
        ),
        Cause.ALLOCATION,
    )
    | dict.fromkeys(zipl.STRUCTURES, Cause.BOOTMAP)
    | dict.fromkeys((*embed.IN_FILES, embed.AREA_HEADER), Cause.FILE_CONTENT)
    | {embed.BOOT_PARAMETERS: Cause.BOOTMAP}
)

# Structures inside of a file: their bytes are bytes of that file as well.
IN_FILES = frozenset(zipl.STRUCTURES) | embed.IN_FILES

_TIMES = re.compile(
    r"^(i|di)_([acm]|cr|d)time|^DIR_(Crt|Wrt|LstAcc)|^fs_time|^RecordingDateAndTime$|^TF$|^c_mtime$"
    r"|^(create|modify|backup|checked)Date$"
)
_ALLOCATION = re.compile(
    r"^(s_free_(blocks|inodes)|s_r_blocks|s_overhead|sb_(icount|ifree|fdblocks|frextents|imax)"
    r"|DIR_FstClus|i_block(s_lo|s_high)?$|di_n?(blocks|extents|anextents|big_nextents|big_anextents|nextents64)$|FSI_"
    r"|LocationOf|VolumeSpaceSize|PathTableSize|LoadRBA$|CE$)"
)
_SIZE = re.compile(r"^(s_(inodes|blocks)_count|sb_(dblocks|agcount|agblocks))")
_METADATA = re.compile(r"^DIR_(Attr|FileSize)$|^DataLength|^FileFlags$|^PX$")
_BOOT_CODE = "boot code"
_LSN = re.compile(r"_lsn$")
_CHECKSUM = re.compile(
    r"(checksum|_csum|csum_|_crc|crc$|crc32|_cksum|chksum$|chksum\[|HeaderCRC32|ArrayCRC32)", re.IGNORECASE
)
_NO_CHECKSUM = re.compile(r"^(s_checksum_type|s_checksum_seed|h_chksum_type|h_chksum_size|s_checksum_type)$")
_STAMPED = frozenset({Kind.SUPERBLOCK, Kind.BACKUP_SUPERBLOCK, Kind.BOOT_SECTOR})
_MOVED = frozenset({"AlternateLBA", "LastUsableLBA", "MyLBA", "PartitionEntryLBA"})
_OF_OTHER = (("block_bitmap", Kind.BLOCK_BITMAP), ("inode_bitmap", Kind.INODE_BITMAP), ("EntryArray", GPT_ENTRY))


class Reason(msgspec.Struct, frozen=True):
    """A cause; ``derived`` names what the bytes follow from where they are a checksum."""

    cause: Cause
    derived: str = ""


def structure_cause(structure: str) -> Cause:
    """Return what a change in a structure stands for, as far as the structure alone tells."""
    if structure.startswith(("journal", "log")):
        return Cause.JOURNAL
    return _BY_STRUCTURE.get(structure, Cause.UNKNOWN)


def reason(structure: str, field: str, *, backup_moved: bool = False) -> Reason:
    """Return why ``field`` of ``structure`` differs."""
    base = structure_cause(structure)
    if base is Cause.PARTITION_TABLE and backup_moved and (structure in BACKUP_GPT or field in _MOVED):
        base = Cause.GPT_BACKUP_MOVED
    if not field:
        return Reason(base)
    if _CHECKSUM.search(field) and not _NO_CHECKSUM.match(field):
        return Reason(base, f"{CHECKSUM}{_summed(structure, field)}")
    if base is Cause.JOURNAL or structure == Kind.FILE_DATA:
        return Reason(base)
    return Reason(_field_cause(structure, field) or base)


def _summed(structure: str, field: str) -> str:
    """Name what a checksum is taken over."""
    for part, other in _OF_OTHER:
        if part in field:
            return str(other)
    return str(structure)


def _field_cause(structure: str, field: str) -> Cause | None:
    if _TIMES.search(field):
        return Cause.INODE_TIMESTAMP
    if _ALLOCATION.search(field) or (structure in _STAMPED and _SIZE.search(field)):
        return Cause.ALLOCATION
    if _METADATA.search(field):
        return Cause.FILE_METADATA
    if field == _BOOT_CODE:
        return Cause.BOOTMAP
    if _LSN.search(field) and structure not in _STAMPED:
        return Cause.JOURNAL
    return None
