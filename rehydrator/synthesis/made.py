"""The file that is made: what its container says about it that no disk tells.

Where a tool draws a random number or takes the time, the value here follows from the file's name and the wished time,
so that the same wish gives the same bytes.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import msgspec

from rehydrator.disk.sink import HashSink, copy
from rehydrator.disk.source import Source

_NAMESPACE = uuid.UUID("e1d2b3a7-6c1f-5a94-9a8e-0f4a6c2b7d10")


class Made(msgspec.Struct, frozen=True):
    """A wished file.

    ``stem`` is its name without the format's suffix, ``like`` that of the file whose records it takes, ``disk`` the
    disk in it, ``epoch`` the time of the change in seconds since 1970 or 0.
    """

    stem: str
    like: str
    arch: str
    disk: Source
    epoch: int = 0

    def identity(self, purpose: str) -> str:
        """Return a UUID that follows from the file."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.stem} {self.epoch} {purpose}"))

    def renamed(self, text: str) -> str:
        """Return a text of the other file with this file's name."""
        return text.replace(self.like, self.stem)

    @property
    def moment(self) -> datetime:
        """The time of the change."""
        return datetime.fromtimestamp(self.epoch, UTC)


def digest_of(content: Source) -> str:
    """Return the sha256 of a source, in hexadecimal."""
    sink = HashSink()
    try:
        copy(content, sink)
        return sink.hexdigest()
    finally:
        sink.close()
