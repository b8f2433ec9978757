"""Run by the benchmark with rehydrator's own Python: ``replay_once.py STORE ARCH KEY RAW``.

Prints the seconds that replaying an artifact's edits takes over the raw base disk and over the store, as JSON. A
process measures each once, since a rehydration replays once; nothing is copied or hashed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rehydrator.disk.source import FileSource
from rehydrator.engines.direct import edited_disk
from rehydrator.manifest.schema import EditedDisk
from rehydrator.store.reader import Store


def main(store_path: str, arch: str, key: str, raw: str) -> None:
    """Print both times."""
    with Store(Path(store_path)) as store, FileSource(Path(raw)) as disk:
        body = store.manifest_by_key(arch, key).body
        if not isinstance(body, EditedDisk):
            raise SystemExit(f"{key} is not told by edits")
        canonical = store.canonical(arch)
        taken = []
        for base in (disk, canonical):
            begun = time.perf_counter()
            edited_disk(base, body, lambda name: b"")
            taken.append(time.perf_counter() - begun)
    print(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
