"""The tar layer: archives around one disk, such as an OVA or a disk.raw with holes, written by GNU tar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rehydrator.disk.composed import Joined, Mapped, Mapping, Zeros
from rehydrator.disk.extents import Extent
from rehydrator.disk.source import BytesSource, Source, Window
from rehydrator.errors import MismatchError, UnsupportedError
from rehydrator.layers.base import Unwrapped, compact
from rehydrator.layers.c_tar import BLOCKSIZE, RECORDSIZE, Type
from rehydrator.layers.exactness import KEEP, check_exact, reading
from rehydrator.layers.tar_header import header_blocks
from rehydrator.layers.tar_oci import told_as_image, written_out
from rehydrator.layers.tar_read import MAX_DISK, MAX_LITERAL, Found, read_members
from rehydrator.layers.tar_record import Piece, TarMember, TarRecord


class TarLayer:
    """Wraps a disk into a tar archive beside small members, and back."""

    def unwrap(self, outer: Source, path: Path) -> Unwrapped:
        """Read the archive and check that :meth:`wrap` gives all bytes but the disk's back."""
        found = self.look(outer, path)
        record = told_as_image(_with_usual_map(found.record, found.inner), found.inner.size)
        with reading(path):
            again = TarImage(found.inner, record)
        check_exact("tar", outer, again, again.literal(), path)
        return Unwrapped(found.inner, record)

    def look(self, outer: Source, path: Path) -> Unwrapped:
        """Read the archive; its largest file is the disk."""
        found = read_members(outer, path)
        files = [number for number, item in enumerate(found) if item.is_file]
        if not files:
            raise UnsupportedError(
                "a tar without a file",
                path=path,
                offset=0,
                expected="1 file",
                actual=f"{len(found)} members",
                hint=KEEP,
            )
        disk = max(files, key=lambda number: found[number].data.length)
        with reading(path):
            members = [
                item.member if number == disk else _with_content(item, outer) for number, item in enumerate(found)
            ]
        padding = outer.size - found[-1].end
        record = TarRecord(
            [compact(member) for member in members],
            disk=disk,
            style=found[disk].style,
            padding="blocked" if padding == _blocked(found[-1].end) else padding,
        )
        return Unwrapped(_inner(outer, found[disk]), compact(record))

    def wrap(self, inner: Source, record: TarRecord, tables: Sequence[bytes] = ()) -> Source:
        """Return the archive around ``inner``."""
        return TarImage(inner, record)

    def describe(self, record: TarRecord) -> str:
        """Name the disk, its map and the other members, or the image that they make."""
        disk = _disk_member(record)
        if record.oci is not None:
            return f"{record.style} tar of an OCI image for {record.oci.architecture}"
        sparse = _map_words(disk)
        others = ", ".join(item.name for number, item in enumerate(record.members) if number != record.disk)
        return f"{record.style} tar of {disk.name}{sparse}" + (f" with {others}" if others else "")


def _disk_member(record: TarRecord) -> TarMember:
    """Return the member that is the disk; the record may be forged."""
    if not 0 <= record.disk < len(record.members):
        raise MismatchError("the tar record names no disk")
    return record.members[record.disk]


def _map_words(disk: TarMember) -> str:
    if disk.sparse == "nonzero":
        return " without its zeros"
    return f" in {len(disk.pieces)} pieces" if disk.pieces else ""


def _nonzero(disk: Source) -> list[Piece]:
    """Return the map that GNU tar makes of a file whose zeros are holes."""
    pieces = [Piece(*extent) for extent in disk.nonzero()]
    end = pieces[-1].offset + pieces[-1].length if pieces else 0
    return pieces if end == disk.size else [*pieces, Piece(disk.size, 0)]


def _with_usual_map(record: TarRecord, disk: Source) -> TarRecord:
    """Leave a map out that follows from the disk."""
    member = record.members[record.disk]
    if member.type != Type.GNU_SPARSE or member.header or member.sparse != _nonzero(disk):
        return record
    members = list(record.members)
    members[record.disk] = msgspec.structs.replace(member, sparse="nonzero")
    return msgspec.structs.replace(record, members=members)


def _with_content(item: Found, outer: Source) -> TarMember:
    """Return a member that is not the disk with its content."""
    if item.member.type == Type.GNU_SPARSE:
        raise UnsupportedError(
            "a tar with two sparse files", offset=item.data.offset, expected="1 sparse file", actual=item.member.name
        )
    if item.data.length > MAX_LITERAL:
        raise UnsupportedError(
            "a tar with two large files",
            offset=item.data.offset,
            expected=f"at most {MAX_LITERAL} bytes beside the disk",
            actual=item.data.length,
        )
    content = bytes(outer.read(*item.data))
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return msgspec.structs.replace(item.member, data=content)
    return msgspec.structs.replace(item.member, text=text.split("\n") if text else [])


def _inner(outer: Source, item: Found) -> Source:
    if item.member.type == Type.GNU_SPARSE:
        return Mapped(outer, _mappings(item.data.offset, item.member.pieces), item.real_size)
    return Window(outer, *item.data)


def _mappings(start: int, pieces: Sequence[Piece]) -> Iterator[Mapping]:
    """Yield the pieces of a sparse member, which lie one behind the other from byte ``start`` on."""
    for piece in pieces:
        yield Mapping(piece.offset, piece.length, start)
        start += piece.length


def _blocked(end: int) -> int:
    """Return the zeros that GNU tar writes after the last member, which ends at ``end``."""
    return -(-(end + 2 * BLOCKSIZE) // RECORDSIZE) * RECORDSIZE - end


class TarImage(Joined):
    """A tar archive computed from its disk and record."""

    def __init__(self, disk: Source, record: TarRecord) -> None:
        _disk_member(record)
        if disk.size > MAX_DISK:
            raise MismatchError("the disk does not fit a tar", expected=f"at most {MAX_DISK}", actual=disk.size)
        parts: list[Source] = []
        for number, member in enumerate(written_out(record, disk.size)):
            held = list(_disk_parts(disk, member, record) if number == record.disk else _small_parts(member, record))
            parts += [*held, Zeros(-sum(part.size for part in held) % BLOCKSIZE)]
        end = sum(part.size for part in parts)
        padding = _blocked(end) if record.padding == "blocked" else record.padding
        if not 0 <= padding <= MAX_DISK:
            raise MismatchError("the tar record holds impossible numbers")
        super().__init__([*parts, Zeros(padding)])

    def extents(self) -> Iterator[Extent]:
        """Yield the whole archive: tar writes no holes."""
        if self.size:
            yield Extent(0, self.size)

    def literal(self) -> Iterator[Extent]:
        """Yield the ranges of all that is not the disk."""
        yield from (place for part, place in self.places() if not isinstance(part, Window))


def _small_parts(member: TarMember, record: TarRecord) -> Iterator[Source]:
    content = member.content
    yield BytesSource(header_blocks(member, record.style, len(content), len(content)))
    yield BytesSource(content)


def _disk_parts(disk: Source, member: TarMember, record: TarRecord) -> Iterator[Source]:
    if member.sparse == "nonzero":
        member = msgspec.structs.replace(member, sparse=_nonzero(disk))
    sparse = member.type == Type.GNU_SPARSE
    pieces = list(member.pieces) if sparse else [Piece(0, disk.size)]
    held = sum(piece.length for piece in pieces)
    yield BytesSource(header_blocks(member, record.style, held, disk.size))
    for piece in pieces:
        if piece.offset < 0 or piece.length < 0 or piece.offset + piece.length > disk.size:
            raise MismatchError(
                "the disk does not fit the tar record", expected=piece.offset + piece.length, actual=disk.size
            )
        yield Window(disk, piece.offset, piece.length)
