"""Health notes: what is wrong with either image on its own."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrator.boot.zipl.verify import verdicts
from rehydrator.errors import RehydratorError
from rehydrator.explain.gpt import health as gpt_health
from rehydrator.explain.owners import DiskOwners
from rehydrator.explain.peel import Obstacle
from rehydrator.explain.tree import Note
from rehydrator.fs.place import Health

_MAX_PER_PART = 50
_BOTH = "both"


def checked(owners: DiskOwners) -> Iterator[str]:
    """Say what the health checks of a disk look at."""
    if owners.gpt.primary is not None:
        yield "GPT headers and entry arrays"
    for region in owners.partitions:
        filesystem = owners.filesystem(region)
        if filesystem is not None:
            yield f"{filesystem.type} metadata of {region.name}"
        if owners.boot_disk(region) is not None:
            yield f"zipl boot record and bootmap of {region.name}"


def notes_of(image: str, owners: DiskOwners, obstacle: Obstacle | None) -> Iterator[Note]:
    """Yield everything that is wrong with one image."""
    if obstacle is not None:
        yield Note(image, "container", None, obstacle.text)
    if owners.table_problem:
        yield Note(image, "partition table", None, owners.table_problem)
    for item in gpt_health(owners.disk, owners.gpt, hybrid=owners.live is not None):
        yield Note(image, item.name, item.offset, item.problem)
    for region in owners.partitions:
        filesystem = owners.filesystem(region)
        if filesystem is not None:
            yield from _limited(image, region.name, region.extent.offset, filesystem.health())
        if (boot := owners.boot_disk(region)) is not None:
            for verdict in verdicts(boot):
                if verdict.problem:
                    yield Note(image, f"{region.name}: zipl {verdict.part}", None, verdict.problem)
    for region, item in owners.problems:
        yield _note(image, region.name, region.extent.offset, item)


def _note(image: str, region: str, base: int, item: Health) -> Note:
    return Note(image, f"{region}: {item.name}", base + item.offset, item.problem)


def _limited(image: str, region: str, base: int, found: Iterator[Health]) -> Iterator[Note]:
    more = 0
    try:
        for number, item in enumerate(found):
            if number < _MAX_PER_PART:
                yield _note(image, region, base, item)
            else:
                more += 1
    except RehydratorError as error:
        yield Note(image, region, None, f"could not be checked: {error}")
    if more:
        yield Note(image, region, None, f"and {more} more problems")


def together(a: list[Note], b: list[Note]) -> list[Note]:
    """Say once what both images have."""

    def key(note: Note) -> tuple[str, int | None, str]:
        return note.structure, note.offset, note.text

    common = {key(note) for note in a} & {key(note) for note in b}
    both = [Note(_BOTH, note.structure, note.offset, note.text) for note in a if key(note) in common]
    return both + [note for note in (*a, *b) if key(note) not in common]
