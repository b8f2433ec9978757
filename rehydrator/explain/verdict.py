"""The first line of a report: in what do the images differ?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rehydrator.explain.causes import Cause
from rehydrator.explain.meaning import BOOT_LOADER, topic
from rehydrator.explain.tree import CauseTotal, FieldChange, Part, Side, Total
from rehydrator.live.embed import EMBEDDED

_MAX_PATHS = 3
_MAX_FIELDS = 4
_BY_CAUSE = {
    Cause.BOOTMAP: BOOT_LOADER,
    Cause.PARTITION_TABLE: "partition table",
    Cause.GPT_BACKUP_MOVED: "place of the backup GPT",
}
_BOOKKEEPING = (
    Cause.FILE_METADATA,
    Cause.DIR_ENTRY,
    Cause.INODE_TIMESTAMP,
    Cause.SUPERBLOCK_STAMP,
    Cause.JOURNAL,
    Cause.ALLOCATION,
    Cause.PADDING,
)
_KNOWN_TOPICS = ("kernel arguments", "console settings", "platform settings")


def verdict(
    a: Side,
    b: Side,
    parts: Sequence[Part],
    causes: Sequence[CauseTotal],
    container: Sequence[FieldChange],
    normalised: Sequence[str],
    total: Total,
) -> str:
    """Return one sentence."""
    changed = {change.structure for part in parts for change in part.changes}
    if changed and changed <= EMBEDDED:
        return f"{b.name} is {a.name}, customised: other {' and '.join(sorted(changed, reverse=True))}"
    topics = list(_topics(a, b, parts, causes))
    direct = {item.cause: item.bytes for item in causes}
    bookkeeping = [cause for cause in _BOOKKEEPING if direct.get(cause)]
    if not topics and not total.differing:
        return _same_disk(a, b, container, normalised)
    if not topics and bookkeeping:
        text = f"{b.name} differs from {a.name} only in bookkeeping: {', '.join(bookkeeping)}"
        extra = [f"{total.derived:,} derived bytes"] if total.derived else []
    else:
        text = f"{b.name} differs from {a.name} only in: {', '.join(topics) or 'derived bytes'}"
        amount = sum(direct[cause] for cause in bookkeeping)
        extra = [f"{amount:,} bytes of bookkeeping"] if amount else []
        extra += [f"{total.derived:,} derived"] if total.derived else []
    if extra:
        text += f" (+ {', '.join(extra)})"
    if total.unexplained:
        text = text.replace(" only in", " in", 1)
        text += f"; {total.unexplained:,} bytes are unexplained"
    return text


def of_another_kind(a: Side, b: Side, parts: Sequence[Part]) -> str:
    """Return the sentence about a disk and an image that is none: what the one has of the other's content."""
    found, own = sum(part.copied or 0 for part in parts), sum(part.bytes for part in parts)
    amounts = f"{found:,} bytes of its content are found there, {own:,} are not"
    return f"{b.name} is another kind of image than {a.name}: {amounts}"


def _same_disk(a: Side, b: Side, container: Sequence[FieldChange], normalised: Sequence[str]) -> str:
    if container:
        fields = list(dict.fromkeys(f"{item.layer} {item.field}" for item in container))
        text = ", ".join(fields[:_MAX_FIELDS])
        if len(fields) > _MAX_FIELDS:
            text += f" and {len(fields) - _MAX_FIELDS} more fields"
        return f"{a.name} and {b.name} hold the same disk; only the container differs: {text}"
    if normalised:
        kinds = " and ".join(dict.fromkeys(text.split(":")[0] for text in normalised))
        return f"{a.name} and {b.name} hold the same disk; only the {kinds} differs"
    return f"{a.name} and {b.name} are identical"


def _topics(a: Side, b: Side, parts: Sequence[Part], causes: Sequence[CauseTotal]) -> Iterator[str]:
    found = {item.cause for item in causes if item.bytes or item.derived}
    separate = [part for part in parts if part.copied is not None]
    if separate:
        kept = "" if any(part.files for part in separate) else " with the same files"
        yield f"separately made file systems{kept} ({', '.join(part.name for part in separate)})"
    if a.size != b.size:
        yield "disk size"
    yield from (text for cause, text in _BY_CAUSE.items() if cause in found)
    yield from _file_topics(parts)
    unread = [part for part in parts if not part.files and _has(part, Cause.UNREAD)]
    yield from (f"the {part.filesystem} volume of {part.name}" for part in unread)
    if Cause.UNKNOWN in found:
        yield "bytes without a known owner"


def _file_topics(parts: Sequence[Part]) -> Iterator[str]:
    found = (topic(path) for part in parts for item in part.files for path in item.changed)
    topics = dict.fromkeys(name for name in found if name != BOOT_LOADER)  # told by its cause
    yield from (name for name in _KNOWN_TOPICS if name in topics)
    paths = [name for name in topics if name not in _KNOWN_TOPICS]
    if len(paths) <= _MAX_PATHS:
        yield from paths
    else:
        yield f"{len(paths)} {'other ' if len(paths) < len(topics) else ''}files"
    listed = {item.path for part in parts for item in part.files}
    if not listed and any(_has(part, Cause.FILE_CONTENT) for part in parts):
        yield "file content"


def _has(part: Part, cause: Cause) -> bool:
    return any(change.cause == cause for change in part.changes)
