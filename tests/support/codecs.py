"""Versions of compression libraries that are at hand, or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rehydrator.codecs import wheels, zstd


def with_wheels(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[None]:
    """Let wheels be looked for in ``directory`` alone, until the iterator goes on."""

    def forget() -> None:
        wheels.load_module.cache_clear()
        zstd.library.cache_clear()
        zstd.encoder.cache_clear()

    monkeypatch.setenv(wheels.DIRECTORY_VARIABLE, str(directory))
    forget()
    yield
    forget()
