"""Run by the benchmark with rehydrator's own Python: makes the root file system of a live image, and nothing else.

``squashfs_once.py STORE ARCH KEY`` reads the squashfs that lies in the artifact KEY and prints its sha256.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from rehydrator.disk.composed import Joined
from rehydrator.disk.extents import CHUNK
from rehydrator.engines.direct import body_source
from rehydrator.layers.squashfs_record import SquashfsRecord
from rehydrator.manifest.schema import Parts
from rehydrator.store.reader import Store


def main(root: Path, arch: str, key: str) -> None:
    """Make it, as fast as it can be read."""
    with Store(root) as store:
        manifest = store.manifest_by_key(arch, key)
        body, source = manifest.body, body_source(manifest, store)
        if not isinstance(body, Parts) or not isinstance(source, Joined):
            raise SystemExit(f"{key} is no archive")
        for part, (made, _) in zip((part for part in body.parts if part.size), source.places(), strict=True):
            if part.layers and isinstance(part.layers[0], SquashfsRecord):
                sha256 = hashlib.sha256()
                for at in range(0, made.size, CHUNK):
                    sha256.update(made.read(at, min(CHUNK, made.size - at)))
                print(sha256.hexdigest(), made.size)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
