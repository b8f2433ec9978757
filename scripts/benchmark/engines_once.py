"""Run by the benchmark with rehydrator's own Python: ``engines_once.py STORE ARCH KEY...``.

Starts one machine, replays the edits of each artifact with both engines and compares the disks. Prints JSON:
the seconds that the start took, and per artifact those of both engines and the account of its sectors.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rehydrator.disk.extents import chunks, merge
from rehydrator.disk.overlay import Overlay
from rehydrator.engines.direct import base_source, blob_reader, body_source, edited_disk
from rehydrator.engines.guestfs.engine import GuestfsEngine, Settlement
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.manifest.schema import EditedDisk
from rehydrator.store.reader import Store


def _same(a: Overlay, b: Overlay) -> bool:
    """Compare two overlays over the same base where either was written; a whole disk may be of 100 GiB."""
    written = merge(sorted([*a.patched, *b.patched]))
    return a.size == b.size and all(a.read(*piece) == b.read(*piece) for piece in chunks(written))


def main(store_path: str, arch: str, *keys: str) -> None:
    """Print what was measured."""
    accounts: list[Settlement] = []
    rows = []
    with Store(Path(store_path)) as store:
        manifests = [store.manifest_by_key(arch, key) for key in keys]
        size = max(body_source(manifest, store).size for manifest in manifests)
        begun = time.perf_counter()
        with Machine(size, lambda text: print(text, file=sys.stderr)) as machine:
            started = time.perf_counter() - begun
            engine = GuestfsEngine(machine, size, accounts.append)
            for key, manifest in zip(keys, manifests, strict=True):
                body = manifest.body
                if not isinstance(body, EditedDisk):
                    raise SystemExit(f"{key} is not told by edits")
                base, blobs = base_source(manifest, store), blob_reader(manifest, store)
                taken, disks = [], []
                for replay in (edited_disk, engine.edited_disk):
                    begun = time.perf_counter()
                    disks.append(replay(base, body, blobs))
                    taken.append(time.perf_counter() - begun)
                if not _same(*disks):
                    raise SystemExit(f"the engines give different disks for {key}")
                rows.append([key, *taken, accounts[-1].made, accounts[-1].made + accounts[-1].settled])
    print(json.dumps([started, rows]))


if __name__ == "__main__":
    main(*sys.argv[1:])
