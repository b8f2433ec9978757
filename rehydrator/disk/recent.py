"""Decompressed pieces of a file, of which the last ones are kept for the next read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

_RECENT = 32  # pieces that are kept


class Recent:
    """Decompressed chunks by number, of which the last ones are kept."""

    def __init__(self, inflate: Callable[[int], bytes]) -> None:
        self._inflate = inflate
        self._lock = threading.Lock()
        self._held: OrderedDict[int, bytes] = OrderedDict()

    def __getitem__(self, number: int) -> bytes:
        with self._lock:
            held = self._held.get(number)
            if held is not None:
                self._held.move_to_end(number)
                return held
        content = self._inflate(number)
        with self._lock:
            self._held[number] = content
            while len(self._held) > _RECENT:
                self._held.popitem(last=False)
        return content
