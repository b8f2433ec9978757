"""The flow of ``explain``: two opened images in, a report out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import msgspec
from msgspec.structs import replace

from rehydrator.boot.zipl.installed import BOOTMAP_PATH
from rehydrator.disk.gpt import PartitionTable, Region
from rehydrator.explain import checks, commands
from rehydrator.explain.account import RegionAccount
from rehydrator.explain.attribute import Attribution, Collector, pieces
from rehydrator.explain.container import container_changes, normalised
from rehydrator.explain.files import Pair, Tree, tree_of
from rehydrator.explain.inside import MAX_DEPTH, open_inside
from rehydrator.explain.meaning import meaning, told_areas, told_arguments, unified
from rehydrator.explain.owners import DiskOwners, Owner
from rehydrator.explain.peel import Opened
from rehydrator.explain.separate import look_up, own_pieces, separately_made
from rehydrator.explain.tree import FileChange, Note, Part, Report, Side, Status, Total
from rehydrator.explain.unread import Image, compare_unread
from rehydrator.explain.verdict import of_another_kind, verdict
from rehydrator.explain.volumes import Compared, Start
from rehydrator.fs.probe import Probe
from rehydrator.report import human

_PLATFORM = re.compile(r"-([a-z0-9]+(?:4k)?)\.(?:x86_64|aarch64|ppc64le|s390x|riscv64)\.")


class Options(msgspec.Struct, frozen=True):
    """How much is wanted besides the account itself.

    ``strict`` counts unlike compression and unlike containers as differences. ``start`` gives a virtual machine that
    reads the file systems that nothing here does; without it they are only named. Files that hold files are told
    ``depth`` levels deep.
    """

    patch: bool = False
    evidence: bool = False
    strict: bool = False
    health: bool = True
    start: Start | None = None
    depth: int = MAX_DEPTH


def explain(a: Opened, b: Opened, options: Options, digests: Sequence[str] = ()) -> Report:
    """Compare two images layer by layer and account for every differing byte of their disks."""
    return _Builder(a, b, options).report(digests)


class _Builder:
    """Holds what the steps of one comparison share."""

    def __init__(self, a: Opened, b: Opened, options: Options) -> None:
        self.options = options
        self.a, self.b = a, b
        self.side_a, self.side_b = sides(a, b)
        self.owners_a = DiskOwners(a.disk)
        self.owners_b = DiskOwners(b.disk, _sound_table(self.owners_a))
        if self.owners_a.table_problem:
            self.owners_a = DiskOwners(a.disk, _sound_table(self.owners_b))
        self.other_kind = _is_disk(self.owners_a) != _is_disk(self.owners_b)
        self.collector = Collector(options.evidence)
        self._pairs: dict[str, Pair] = {}
        self._compared: dict[str, Compared] = {}

    def report(self, digests: Sequence[str]) -> Report:
        """Do all the steps."""
        moved = self.owners_a.gpt.backup != self.owners_b.gpt.backup
        attribution = Attribution(self.collector, self._same_content, self._command, backup_moved=moved)
        account = attribution.account
        separate = separately_made(self.owners_a, self.owners_b)
        for piece in () if self.other_kind else pieces(self.owners_a, self.owners_b, separate):
            attribution.add(piece)
        for found in look_up(self.owners_a, self.owners_b, separate):
            account.region(found.region).copied = found.copied
            for piece in own_pieces(self.owners_b, found):
                attribution.add(piece)
        account.close()
        accounts = sorted(account.regions.values(), key=lambda item: item.region.extent)
        a, b = Image(self.side_a.name, self.owners_a), Image(self.side_b.name, self.owners_b)
        names = [item.region.name for item in accounts]
        self._compared = compare_unread(a, b, names, self.options.start, patch=self.options.patch)
        parts = [self._part(item) for item in accounts]
        causes = account.causes()
        derived = sum(item.bytes for cause in causes for item in cause.derived)
        total = Total(account.total, account.total - account.unexplained, derived)
        container = list(container_changes(self.a, self.b))
        unlike = list(normalised(self.a, self.b))
        identical = not total.differing and not container and self.a.disk.size == self.b.disk.size
        if separate or (self.options.strict and (unlike or digests)):
            identical = False
        evidence = self.collector.found
        health_a = self._health(self.side_a.name, self.owners_a, self.a)
        health_b = self._health(self.side_b.name, self.owners_b, self.b)
        told = (
            of_another_kind(self.side_a, self.side_b, parts)
            if self.other_kind
            else verdict(self.side_a, self.side_b, parts, causes, container, unlike, total)
        )
        return Report(
            verdict=self._unpeeled() + told,
            identical=identical,
            a=self.side_a,
            b=self.side_b,
            normalised=unlike,
            digests=list(digests),
            container=container,
            disk=list(self._disk()),
            first=self._first(attribution.first),
            parts=parts,
            causes=causes,
            evidence=evidence,
            evidence_left_out=self.collector.left_out,
            preparation=list(self._preparation()) if evidence else [],
            health=checks.together(health_a, health_b),
            checked=list(dict.fromkeys([*checks.checked(self.owners_a), *checks.checked(self.owners_b)])),
            total=total,
        )

    # -- files

    def _pair(self, account: RegionAccount) -> Pair:
        name = account.region.name
        if name not in self._pairs:
            self._pairs[name] = Pair(
                _tree(self.owners_a, name, account.known_a), _tree(self.owners_b, name, account.known_b)
            )
        return self._pairs[name]

    def _same_content(self, account: RegionAccount, owner: Owner) -> bool:
        return self._pair(account).same(owner.path)

    def _part(self, account: RegionAccount) -> Part:
        region = account.region
        compared = self._compared.get(region.name)
        driven = compared.files if compared else None
        files = list(self._files(account)) if driven is None else driven
        listed = {item.path for item in files}
        apart = account.copied is not None and not self.other_kind
        kept = self._pair(account).trees.same if apart else [*account.moved]
        probed = self.owners_b.probe(region) or self.owners_a.probe(region)
        return Part(
            name=region.name,
            offset=region.extent.offset,
            size=region.extent.length,
            filesystem=_type(probed),
            bytes=account.bytes,
            blocks=account.blocks,
            files=files,
            changes=list(account.changes()),
            moved_files=len([path for path in kept if path not in listed]),
            note=compared.note if compared else "",
            copied=account.copied,
        )

    def _files(self, account: RegionAccount) -> Iterator[FileChange]:
        if self.other_kind:  # B's files are no more new than all of B is
            return
        pair = self._pair(account)
        apart = account.copied is not None
        unlike = set(pair.trees.unlike) if apart else pair.suspected(account.touched)
        for path in sorted(unlike if apart else {*unlike, *account.touched, *account.content}):
            change = self._file(account, pair, path, unlike=path in unlike)
            if change is not None:
                yield change

    def _file(self, account: RegionAccount, pair: Pair, path: str, *, unlike: bool) -> FileChange | None:
        number = account.content[path]
        one = pair.a.entry(path) if pair.a else None
        two = pair.b.entry(path) if pair.b else None
        status: Status = "M" if one and two else "A" if two else "D"
        if one is None and two is None:
            return FileChange("M", path, "file", None, None, number) if number else None
        content = "file" in (kinds := {item.kind for item in (one, two) if item}) or "symlink" in kinds
        changed = number or unlike or (one and two and one.size != two.size)
        if status == "M" and not (content and changed):
            return None
        old = pair.a.content(path) if pair.a and one else None
        new = pair.b.content(path) if pair.b and two else None
        return FileChange(
            status=status,
            path=path,
            kind=(two or one).kind if (two or one) else "file",  # type: ignore[union-attr]
            size_a=one.size if one else None,
            size_b=two.size if two else None,
            bytes=number,
            meaning=self._meaning(account.region, path, old, new),
            diff=unified(path, old, new) if self.options.patch and content else [],
            inside=self._inside(pair, path) if status == "M" else [],
        )

    def _inside(self, pair: Pair, path: str) -> list[Part]:
        """Compare the files in a file, if it holds any on both sides."""
        if not self.options.depth:
            return []
        options = replace(self.options, evidence=False, health=False, depth=self.options.depth - 1)
        with ExitStack() as stack:
            a, b = (open_inside(tree.source(path) if tree else None, stack) for tree in (pair.a, pair.b))
            return _Builder(a, b, options).report(()).parts if a and b else []

    def _meaning(self, region: Region, path: str, old: bytes | None, new: bytes | None) -> list[str]:
        if path == BOOTMAP_PATH:
            return self._parmline(region)
        embedded = list(told_areas(path, self.owners_a.live, self.owners_b.live))
        return embedded or meaning(path, old, new)

    def _parmline(self, region: Region) -> list[str]:
        """Tell how the command line in zipl's bootmap changed."""
        old, new = (_parmline_of(owners, region.name) for owners in (self.owners_a, self.owners_b))
        return [] if old is None or new is None else told_arguments(old, new)

    # -- the rest of the report

    def _unpeeled(self) -> str:
        """Warn where bytes of a container are compared as if they were a disk's."""
        pairs = ((self.side_a, self.a), (self.side_b, self.b))
        names = [side.name for side, opened in pairs if opened.obstacle]
        return f"{' and '.join(names)} could not be taken apart and is compared as it is: " if names else ""

    def _disk(self) -> Iterator[str]:
        one, two = self.a.disk.size, self.b.disk.size
        if one == two:
            yield f"disk size {human(one)}"
        else:
            yield f"disk {'grew' if two > one else 'shrank'} {human(one)} -> {human(two)}"
        yield from _table_words(self.owners_a, self.owners_b)

    def _first(self, owner: Owner | None) -> str:
        if owner is None:
            return ""
        probed = self.owners_b.probe(owner.region) or self.owners_a.probe(owner.region)
        words = [owner.region.name, _type(probed), owner.path or owner.name]
        return f"{owner.extent.offset:#x}: {' '.join(word for word in words if word)}"

    def _command(self, owner: Owner, offset: int, length: int) -> str:
        filesystem = self.owners_b.filesystem(owner.region)
        return commands.command(filesystem.type if filesystem else "", owner, offset, length)

    def _preparation(self) -> Iterator[str]:
        yield from commands.preparation("A", self.a)
        yield from commands.preparation("B", self.b)
        yield from commands.extraction(self.owners_b)

    def _health(self, image: str, owners: DiskOwners, side: Opened) -> list[Note]:
        return list(checks.notes_of(image, owners, side.obstacle)) if self.options.health else []


def _is_disk(owners: DiskOwners) -> bool:
    """Whether an image has partitions, as a disk does, and an ISO or a file system alone does not."""
    return any(region.partition for region in owners.partitions)


def _region(owners: DiskOwners, name: str) -> Region | None:
    return next((region for region in owners.partitions if region.name == name), None)


def _parmline_of(owners: DiskOwners, name: str) -> str | None:
    region = _region(owners, name)
    installed = owners.bootmap(region) if region else None
    return installed.parts.parmline if installed else None


def _tree(owners: DiskOwners, name: str, known: dict[str, int]) -> Tree | None:
    region = _region(owners, name)
    return None if region is None else tree_of(owners.filesystem(region), known)


def _type(probed: Probe | None) -> str:
    if probed is None:
        return ""
    return probed.filesystem.type if probed.filesystem else probed.type


def _sound_table(owners: DiskOwners) -> PartitionTable | None:
    return None if owners.table_problem else owners.table


def _table_words(a: DiskOwners, b: DiskOwners) -> Iterator[str]:
    if a.gpt.primary is None and b.gpt.primary is None:
        return
    ours = [(region.name, region.extent) for region in a.partitions]
    theirs = [(region.name, region.extent) for region in b.partitions]
    yield "same partitions" if ours == theirs else "other partitions"
    if a.gpt.backup != b.gpt.backup:
        yield "backup GPT moved"
    elif a.disk.size != b.disk.size:
        yield "backup GPT not moved"


def sides(a: Opened, b: Opened) -> tuple[Side, Side]:
    """Describe both images, with names that tell them apart."""
    for name in (_short, lambda side: side.name):
        one, two = name(a), name(b)
        if one != two:
            break
    else:
        one, two = "A", "B"
    return Side(one, a.name, a.peeled, a.disk.size), Side(two, b.name, b.peeled, b.disk.size)


def _short(side: Opened) -> str:
    """Return the platform where the file's name tells it, else the name without its suffixes."""
    if side.label:
        return side.label
    found = _PLATFORM.search(side.name)
    return found[1] if found else side.name.split(".")[0] or side.name
