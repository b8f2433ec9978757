"""What has to be kept of a squashfs file system to write it again around its content."""

from __future__ import annotations

import msgspec

from rehydrator.fs.squashfs.tables import SquashfsOptions, SquashfsTable
from rehydrator.layers.packed_record import Patched


class SquashfsRecord(msgspec.Struct, tag="squashfs", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of a squashfs file system, which may be followed by something else within ``file_size``.

    The fields with names of the kernel's are those of the superblock; None stands for a table that is not there.
    ``metadata`` are the tables in file order. ``encoder`` made the compressed blocks, but for those that are patched;
    ``tables`` then names the blob with the patches.
    """

    file_size: int
    compression: str
    encoder: str
    mkfs_time: int
    block_size: int
    inodes: int
    fragments: int
    flags: int
    no_ids: int
    root_inode: int
    bytes_used: int
    id_table_start: int
    inode_table_start: int
    directory_table_start: int
    fragment_table_start: int | None
    xattr_id_table_start: int | None
    lookup_table_start: int | None
    metadata: list[SquashfsTable]
    options: SquashfsOptions | None = None
    patched: Patched | None = None
    tables: list[str] = []
