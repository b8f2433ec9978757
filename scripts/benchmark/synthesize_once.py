"""Run by the benchmark with rehydrator's own Python: ``synthesize_once.py STORE ARCH FORMAT DIR``.

Prints two times in seconds as JSON: making the image of a platform that the release does not have, and writing it
into DIR with its sha256. A process measures each once, since a command does it once.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rehydrator.store.reader import Store
from rehydrator.synthesis.wish import Wish
from rehydrator.synthesize import synthesis, to_directory

_WISH = Wish(platform="benchmark", arguments=("benchmark=1",))


def main(store_path: str, arch: str, form: str, directory: str) -> None:
    """Print both times."""
    with Store(Path(store_path)) as store:
        begun = time.perf_counter()
        made = synthesis(store, arch, _WISH, form)
        ready = time.perf_counter()
        to_directory(made, Path(directory))
        print(json.dumps([ready - begun, time.perf_counter() - ready]))


if __name__ == "__main__":
    main(*sys.argv[1:])
