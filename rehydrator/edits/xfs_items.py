"""Items of the XFS log as manifests have them: what a checkpoint says of inodes, buffers and extents."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from rehydrator.edits.fields import Fields
from rehydrator.edits.literal import LiteralRun
from rehydrator.edits.xfs_change import StructureChange


class LoggedStart(msgspec.Struct, tag="start", tag_field="log", frozen=True):
    """A checkpoint with transaction id ``tid`` begins (``XLOG_START_TRANS``)."""

    tid: int


class LoggedTransaction(msgspec.Struct, tag="transaction", tag_field="log", frozen=True, omit_defaults=True):
    """The header of a checkpoint (``struct xfs_trans_header``); its id is that of the checkpoint."""

    items: int
    set: Fields = {}


class LoggedInode(msgspec.Struct, tag="inode", tag_field="log", frozen=True, omit_defaults=True):
    """An inode as it was: as on disk by then (``now``) or as logged last before, with ``set`` and ``forks`` changed.

    ``fields`` is ``ilf_fields``; ``item`` has what else differs in ``struct xfs_inode_log_format``. ``sizes`` are those
    of the forks that follow.
    """

    inode: int
    fields: int
    now: bool = False
    sizes: list[int] = []
    item: Fields = {}
    set: Fields = {}
    forks: StructureChange | None = None
    runs: list[LiteralRun] = []


class LoggedBuffer(msgspec.Struct, tag="buffer", tag_field="log", frozen=True, omit_defaults=True):
    """Chunks (of 128 bytes) of the ``len`` basic blocks from ``block`` on, as on disk by then or as logged last.

    ``map`` lists runs of chunks, first and count, each of which is a region. ``written`` is the number of the log
    record with which the buffer was written to its place in between, which gave it that number and a checksum.
    """

    block: int
    len: int
    flags: int
    map: list[list[int]] = []
    now: bool = False
    written: int | None = None
    item: Fields = {}
    change: StructureChange | None = None
    runs: list[LiteralRun] = []


class LoggedIntent(msgspec.Struct, tag="intent", tag_field="log", frozen=True):
    """An intent or its end (``XFS_LI_EFI``, ``XFS_LI_EFD`` and the like) with its extents, field by field."""

    type: int
    id: int
    extents: list[list[int]]


class LoggedChunk(msgspec.Struct, tag="inodes", tag_field="log", frozen=True):
    """A chunk of inodes is made (``struct xfs_icreate_log``)."""

    set: Fields


class LoggedCommit(msgspec.Struct, tag="commit", tag_field="log", frozen=True):
    """A checkpoint ends (``XLOG_COMMIT_TRANS``)."""


class LoggedUnmount(msgspec.Struct, tag="unmount", tag_field="log", frozen=True, omit_defaults=True):
    """The file system was unmounted. ``length`` is what the operation's header says: 0, or 8 by older kernels."""

    tid: int
    length: int = 0
    set: Fields = {}


class LoggedBytes(msgspec.Struct, tag="bytes", tag_field="log", frozen=True, omit_defaults=True):
    """A region that is none of these."""

    data: bytes
    flags: int = 0


LoggedItem: TypeAlias = (
    LoggedStart
    | LoggedTransaction
    | LoggedInode
    | LoggedBuffer
    | LoggedIntent
    | LoggedChunk
    | LoggedCommit
    | LoggedUnmount
    | LoggedBytes
)


class NewRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record at log block ``block`` with the items that begin in it.

    ``header`` tells fields that do not follow from the record before; ``length`` is the number of bytes where the
    last operation goes on in the next record. Behind them, zeros follow, or what the record at block ``behind`` left
    in the same buffer. ``words`` are bytes of the header blocks, ``runs`` bytes of the payload without a name.
    """

    block: int
    items: list[LoggedItem]
    header: Fields = {}
    length: int | None = None
    behind: int | None = None
    words: list[LiteralRun] = []
    runs: list[LiteralRun] = []
