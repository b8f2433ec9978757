"""Which pieces of a file to fetch next: those that somebody waits for, and more where it is read from front to back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

MOST = 32  # pieces in one request
_NEAR = 2  # pieces that a reader from front to back may leave out: they hold zeros alone


class Reader(msgspec.Struct, frozen=True):
    """Where a file is read: the last piece of what was read last, and how many behind it will be read as well."""

    at: int = -2 * MOST  # nowhere near
    ahead: int = 0

    def moved(self, pieces: range) -> Reader:
        """Return where it is read after these pieces were: the further that goes on, the more lies ahead."""
        last = pieces[-1]
        if self.at - MOST < last <= self.at:  # of several decoders one is a little behind the others
            return self
        goes_on = self.at <= pieces.start <= self.at + 1 + _NEAR
        return Reader(last, min(max(2 * self.ahead, 1), MOST) if goes_on else 0)


def next_run(waited_for: Iterable[int], reader: Reader, there: Sequence[int]) -> range:
    """Return the pieces to fetch next, none of which is ``there``; an empty range where nothing is to be done.

    ``there`` has a true value for each piece that is there. What somebody waits for comes first. What lies ahead is
    fetched as soon as half of it is missing: then the next request is made while the last one is worked on, and is not
    a small one.
    """
    ahead = range(reader.at + 1, min(reader.at + 1 + reader.ahead, len(there)))
    wanted = next((piece for piece in waited_for if not there[piece]), None)
    if wanted is None:
        missing = [piece for piece in ahead if not there[piece]]
        if not missing or 2 * len(missing) < len(ahead):
            return range(0)
        wanted = missing[0]
    stop = wanted + 1
    limit = min(ahead.stop if wanted in ahead or wanted == reader.at else stop, wanted + MOST)
    while stop < limit and not there[stop]:
        stop += 1
    return range(wanted, stop)
