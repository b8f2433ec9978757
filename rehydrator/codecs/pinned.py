"""Every wheel that an encoder may come from; run as a module, it prints what pip has to be asked for, one a line."""

from __future__ import annotations

from rehydrator.codecs import zlib_ng, zstd
from rehydrator.codecs.wheels import Wheel

WHEELS: tuple[Wheel, ...] = (*zlib_ng.CLASSES.values(), *zstd.CLASSES.values())

if __name__ == "__main__":
    print(*(wheel.requirement for wheel in WHEELS), sep="\n")
