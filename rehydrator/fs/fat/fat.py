"""Reading a FAT file system: its directories, the chains of its files, and who owns which cluster."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrator.disk.source import Source
from rehydrator.fs.fat.c_fat import (
    ATTR_LONG_NAME,
    ATTR_LONG_NAME_MASK,
    ENTRY_END,
    ENTRY_FREE,
    ENTRY_KANJI,
    FIRST_CLUSTER,
    LAST_LONG_ENTRY,
    NTRES_LOWER_BASE,
    NTRES_LOWER_EXT,
    Attribute,
    DirectoryEntry,
    LongEntry,
)
from rehydrator.fs.fat.geometry import read_geometry, read_table
from rehydrator.fs.place import Health

_SIZE = DirectoryEntry.SIZE
_DOTS = {b".          ", b"..         "}


class Run(msgspec.Struct, frozen=True):
    """``length`` bytes at byte ``start`` of the file system that hold a file from its byte ``offset`` on."""

    start: int
    length: int
    offset: int


class Slot(msgspec.Struct, frozen=True):
    """A directory entry at byte ``offset`` of its directory: what it is and which path it names."""

    offset: int
    what: str
    path: str
    long: bool = False


class Node(msgspec.Struct, frozen=True):
    """A file or directory: its path, its length as stored, the runs of its clusters, a directory's entries."""

    path: str
    directory: bool
    size: int
    runs: tuple[Run, ...]
    slots: tuple[Slot, ...] = ()


class Fat:
    """A FAT file system in ``source``. Raises CorruptError when there is none; later damage is in ``problems``."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.geometry = read_geometry(source)
        self.size = source.size
        self.problems: list[Health] = []
        self.table = read_table(self.read_upto(self.geometry.reserved, self.geometry.fat_size), self.geometry)
        self.owned = bytearray(len(self.table))  # clusters that a file or directory has
        self.nodes: dict[str, Node] = {}
        self._walk()

    def read_upto(self, offset: int, length: int) -> bytes:
        """Read what exists of ``length`` bytes at ``offset``."""
        length = max(min(length, self.size - offset), 0)
        return bytes(self._source.read(offset, length)) if length else b""

    def content(self, node: Node) -> bytes:
        """Return the content of a file (of a directory: all its clusters)."""
        data = b"".join(self.read_upto(run.start, run.length) for run in node.runs)
        return data if node.directory else data[: node.size]

    def lookup(self, path: str) -> Node | None:
        """Return the file or directory at ``path``, regardless of case as FAT is."""
        wanted = "/" + path.strip("/")
        exact = self.nodes.get(wanted)
        if exact is not None:
            return exact
        return next((node for name, node in self.nodes.items() if name.lower() == wanted.lower()), None)

    def _report(self, name: str, offset: int, problem: str) -> None:
        self.problems.append(Health(name, offset, problem))

    # -- chains

    def _chain(self, path: str, first: int) -> tuple[Run, ...]:
        """Follow a chain and claim its clusters; it ends where it leads into another one, or itself."""
        geometry, owned, table = self.geometry, self.owned, self.table
        size, last = geometry.cluster_size, len(self.table)
        runs: list[Run] = []
        cluster, begin, count, offset = first, first, 0, 0  # the run being followed begins with cluster `begin`
        while FIRST_CLUSTER <= cluster < last and not owned[cluster]:
            owned[cluster] = 1
            if cluster != begin + count:
                runs.append(Run(geometry.cluster_byte(begin), count * size, offset))
                begin, offset, count = cluster, offset + count * size, 0
            count += 1
            cluster = table[cluster]
        if count:
            runs.append(Run(geometry.cluster_byte(begin), count * size, offset))
        if geometry.valid(cluster):
            start = geometry.cluster_byte(cluster)
            self._report(path, start, f"cluster {cluster} belongs to several files, or to this one twice")
        elif cluster < geometry.type.end:
            self._report(path, geometry.reserved, f"its chain of clusters ends in {cluster:#x}")
        return tuple(runs)

    # -- directories

    def _walk(self) -> None:
        geometry = self.geometry
        if geometry.root_cluster:
            runs = self._chain("/", geometry.root_cluster)
        else:
            runs = (Run(geometry.root_offset, geometry.root_size, 0),)
        waiting = [("/", runs)]
        while waiting:
            path, runs = waiting.pop()
            data = b"".join(self.read_upto(run.start, run.length) for run in runs)
            slots: list[Slot] = []
            for slot, entry in self._entries(path, data):
                slots.append(slot)
                if entry is None:
                    continue
                first = entry.DIR_FstClusLO | (entry.DIR_FstClusHI << 16 if geometry.root_cluster else 0)
                directory = bool(entry.DIR_Attr & Attribute.DIRECTORY)
                if slot.path in self.nodes:
                    self._report(slot.path, runs[0].start if runs else 0, "there are two entries of this name")
                    continue
                chain = self._chain(slot.path, first) if first else ()
                if directory:
                    waiting.append((slot.path, chain))
                    self.nodes[slot.path] = Node(slot.path, True, 0, chain)
                    continue
                held = sum(run.length for run in chain)
                if not entry.DIR_FileSize <= held < entry.DIR_FileSize + geometry.cluster_size:
                    text = f"{entry.DIR_FileSize} bytes long, but has clusters for {held}"
                    self._report(slot.path, chain[0].start if chain else 0, text)
                self.nodes[slot.path] = Node(slot.path, False, entry.DIR_FileSize, chain)
            self.nodes[path] = Node(path, True, 0, runs, tuple(slots))

    def _entries(self, directory: str, data: bytes) -> Iterator[tuple[Slot, DirectoryEntry | None]]:
        """Yield all used slots of a directory; with the entry where it names a file or directory."""
        longs: list[LongEntry] = []
        for at in range(0, len(data) - _SIZE + 1, _SIZE):
            entry = DirectoryEntry.parse(data, at)
            if data[at] == ENTRY_END:
                return
            if data[at] == ENTRY_FREE:
                longs = []
                yield Slot(at, "deleted directory entry", directory), None
            elif entry.DIR_Attr & ATTR_LONG_NAME_MASK == ATTR_LONG_NAME:
                longs.append(LongEntry.parse(data, at))
            else:
                name = self._name(directory, entry, longs)
                before = at - len(longs) * _SIZE
                path = f"{directory.rstrip('/')}/{name}"
                label = bool(entry.DIR_Attr & Attribute.VOLUME_ID)
                if label or entry.DIR_Name in _DOTS:
                    path = directory
                for index in range(len(longs)):
                    yield Slot(before + index * _SIZE, "long name", path, long=True), None
                longs = []
                what = "volume label" if label else f"directory entry {name}"
                yield Slot(at, what, path), None if path == directory else entry

    def _name(self, directory: str, entry: DirectoryEntry, longs: list[LongEntry]) -> str:
        short = short_name(entry)
        if not longs:
            return short
        checksum = short_checksum(entry.DIR_Name)
        fine = longs[0].LDIR_Ord & LAST_LONG_ENTRY and all(
            part.LDIR_Ord & ~LAST_LONG_ENTRY == len(longs) - index and part.LDIR_Chksum == checksum
            for index, part in enumerate(longs)
        )
        if not fine:
            self._report(directory, 0, f"the long name before {short} does not belong to it")
            return short
        raw = b"".join(part.LDIR_Name1 + part.LDIR_Name2 + part.LDIR_Name3 for part in reversed(longs))
        return raw.decode("utf-16-le", "replace").partition("\0")[0].replace("/", "\N{FRACTION SLASH}") or short

    def lost(self) -> Iterator[int]:
        """Yield the clusters that the FAT says are in use but nobody owns."""
        bad = self.geometry.type.bad
        for cluster in range(FIRST_CLUSTER, len(self.table)):
            if not self.owned[cluster] and self.table[cluster] not in {0, bad}:
                yield cluster


def short_name(entry: DirectoryEntry) -> str:
    """Return the 8.3 name with the lower case that NTRes tells (as Windows and Linux show it)."""
    raw = entry.DIR_Name
    if raw[0] == ENTRY_KANJI:
        raw = bytes([ENTRY_FREE]) + raw[1:]
    base, extension = (part.decode("cp437").rstrip() for part in (raw[:8], raw[8:]))
    if entry.DIR_NTRes & NTRES_LOWER_BASE:
        base = base.lower()
    if entry.DIR_NTRes & NTRES_LOWER_EXT:
        extension = extension.lower()
    return (f"{base}.{extension}" if extension else base).replace("/", "\N{FRACTION SLASH}")


def short_checksum(name: bytes) -> int:
    """Return ``LDIR_Chksum`` for an 11-byte short name."""
    value = 0
    for byte in name:
        value = ((value >> 1 | value << 7) + byte) & 0xFF
    return value
