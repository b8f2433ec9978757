"""Looking into stores and damaging them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rehydrator.manifest.schema import UNSEALED
from rehydrator.store.files import sealed


def index(store: Path) -> dict[str, Any]:
    """Return the store's index."""
    found: dict[str, Any] = json.loads((store / "store.json").read_bytes())
    return found


def manifest_path(store: Path, key: str, arch: str = "x86_64") -> Path:
    """Return the path of an artifact's manifest."""
    return store / arch / "manifests" / f"{key}.json"


def manifest(store: Path, key: str, arch: str = "x86_64") -> dict[str, Any]:
    """Return an artifact's manifest."""
    found: dict[str, Any] = json.loads(manifest_path(store, key, arch).read_bytes())
    return found


def flip(path: Path, at: int, mask: int = 0x01) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.unlink()  # the file may be a hard link to the shared store
    path.write_bytes(data)


def rewrite(store: Path, name: str, document: object) -> None:
    """Replace the JSON file ``name`` of a store and pin its new digest in the index, as a forger would."""
    path = store / name
    path.unlink()
    if name == "store.json":
        assert isinstance(document, dict)
        path.write_bytes(sealed(json.dumps(document | {"seal": UNSEALED}).encode()))
        return
    path.write_text(json.dumps(document))
    repin(store, name)


def repin(store: Path, name: str) -> None:
    """Make the index say that the file ``name`` is right as it is."""
    data = (store / name).read_bytes()
    document = index(store)
    pinned = [item for item in _objects(document) if item.get("name") == name]
    assert pinned, f"{name} is not pinned"
    for item in pinned:
        item |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    rewrite(store, "store.json", document)


def _objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)
