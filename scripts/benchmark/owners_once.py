"""Run by the benchmark with rehydrator's own Python: ``owners_once.py IMAGE``.

Tells what each byte of an ext4 image belongs to, and prints how many places that makes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rehydrator.disk.extents import Extent
from rehydrator.disk.source import FileSource
from rehydrator.fs.ext4.owner import Ext4Filesystem


def main(image: str) -> None:
    """Walk through all places."""
    with FileSource(Path(image)) as source:
        filesystem = Ext4Filesystem(source)
        print(sum(1 for _ in filesystem.places([Extent(0, filesystem.size)])))


if __name__ == "__main__":
    main(sys.argv[1])
