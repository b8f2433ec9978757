"""Pulling a store from a registry or an OCI layout into a directory."""

from __future__ import annotations

from pathlib import Path

from rehydrator.progress import Progress
from rehydrator.registry.opening import origin_of, store_image
from rehydrator.registry.place import Source
from rehydrator.store.arrival import Arrival
from rehydrator.store.reader import Store


def pull(source: Source, target: Path, progress: Progress) -> None:
    """Make the store that ``source`` leads to the directory ``target``.

    It appears under its name when all of its files are there and their digests were compared. What came before an error
    or an interrupt is kept, hidden beside it, for the next run.
    """
    with Arrival(target) as arrival, _opened(source, arrival, progress) as store:
        files = [*store.files(), store.index_file]
        store.bring(files)
        arrival.publish(files)


def _opened(source: Source, arrival: Arrival, progress: Progress) -> Store:
    return Store(origin_of(source, arrival, progress, store_image(source)))
