"""Points in time, kept once per manifest and referred to as ``t0``, ``t1``, ...

One edit of an image stamps the same few moments on many structures.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rehydrator.errors import StoreDamagedError

_EPOCH_BITS = 2
_SIGN = 1 << 31
_WORD = 1 << 32


class Time(msgspec.Struct, array_like=True, frozen=True):
    """Seconds since 1970 and nanoseconds."""

    sec: int
    nsec: int


class TimeTable:
    """The moments of one manifest. ``intern`` adds, ``at`` looks up."""

    def __init__(self, times: Iterable[Time] = ()) -> None:
        self.times = list(times)

    def intern(self, time: Time) -> str:
        """Return the name of a moment, adding it where it is new."""
        if time not in self.times:
            self.times.append(time)
        return f"t{self.times.index(time)}"

    def second(self, sec: int) -> str:
        """Return the name of any moment within second ``sec``, adding its beginning where there is none."""
        for index, time in enumerate(self.times):
            if time.sec == sec:
                return f"t{index}"
        return self.intern(Time(sec, 0))

    def at(self, name: str) -> Time:
        """Return the moment called ``name``."""
        try:
            if name[:1] == "t" and name[1:].isdecimal():
                return self.times[int(name[1:])]
        except IndexError:
            pass
        raise StoreDamagedError("an edit names a time that its manifest does not list", actual=repr(name))


def ext4_time(seconds: int, extra: int) -> Time:
    """Join ``i_*time`` and ``i_*time_extra`` (two epoch bits, 30 bits of nanoseconds; fs/ext4/ext4.h)."""
    signed = seconds - _WORD if seconds >= _SIGN else seconds
    return Time(signed + ((extra & (1 << _EPOCH_BITS) - 1) << 32), extra >> _EPOCH_BITS)


def ext4_words(time: Time) -> tuple[int, int]:
    """Split a time into ``i_*time`` and ``i_*time_extra``."""
    low = time.sec % _WORD
    signed = low - _WORD if low >= _SIGN else low
    epoch = (time.sec - signed) >> 32
    return low, (time.nsec << _EPOCH_BITS | epoch & (1 << _EPOCH_BITS) - 1) % _WORD
