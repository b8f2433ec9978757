"""The one table of edits: every op that a manifest may hold."""

from __future__ import annotations

from typing import TypeAlias

from rehydrator.edits.blocks import Blocks
from rehydrator.edits.ext4_allocation import Ext4Allocation
from rehydrator.edits.ext4_directory import Ext4Directory
from rehydrator.edits.ext4_extents import Ext4Extents
from rehydrator.edits.ext4_inodes import Ext4Inodes
from rehydrator.edits.ext4_journal import Ext4Journal
from rehydrator.edits.ext4_superblock import Ext4Superblock
from rehydrator.edits.ext4_xattrs import Ext4Xattrs
from rehydrator.edits.file_content import FileContent
from rehydrator.edits.grow import Grow
from rehydrator.edits.platform import Platform
from rehydrator.edits.xfs_inodes import XfsInodes, XfsSuperblock
from rehydrator.edits.xfs_log import XfsLogRecords, XfsStamp
from rehydrator.edits.xfs_records import XfsRecords
from rehydrator.edits.xfs_structures import XfsStructures
from rehydrator.edits.zero import Zero
from rehydrator.edits.zipl import Zipl

Edit: TypeAlias = (
    Grow
    | Platform
    | FileContent
    | Zipl
    | Zero
    | Ext4Superblock
    | Ext4Allocation
    | Ext4Inodes
    | Ext4Extents
    | Ext4Xattrs
    | Ext4Directory
    | Ext4Journal
    | XfsSuperblock
    | XfsStructures
    | XfsInodes
    | XfsStamp
    | XfsLogRecords
    | XfsRecords
    | Blocks
)


def partition_of(edit: Edit) -> str:
    """Return the name of the partition that an edit changes, empty for one of the whole disk."""
    return "" if isinstance(edit, Grow | Blocks) else edit.partition


def blob_of(edit: Edit) -> str:
    """Return the name of the blob that an edit carries, empty for none."""
    return edit.blob if isinstance(edit, Blocks | FileContent) else ""
