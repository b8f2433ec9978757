"""Making build directories of synthetic releases, as coreos-assembler lays them out."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import lzma
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

RELEASE = "40.20260101.1.0"


def sha256(data: bytes) -> str:
    """Return the sha256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("content"), data)
    return out.getvalue()


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=0),
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "zip": _zip,
}


class ReleaseMaker:
    """A build directory in the making; ``content`` has what rehydration must give back, by file name."""

    def __init__(self, root: Path, arch: str = "x86_64", release: str = RELEASE) -> None:
        self.root = root
        self.arch = arch
        self.release = release
        self.directory = root / "builds" / release / arch
        self.directory.mkdir(parents=True)
        self.images: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes] = {}

    def add(self, key: str, suffix: str, content: bytes, *, promise: bool = True) -> Path:
        """Add an artifact; a compression in ``suffix`` is applied, its content promised unless ``promise`` is false."""
        compression = suffix.rpartition(".")[2]
        shipped = _COMPRESS[compression](content) if compression in _COMPRESS else content
        path = self.ship(key, suffix, shipped)
        if compression in _COMPRESS and promise:
            self.images[key] |= {"uncompressed-sha256": sha256(content), "uncompressed-size": len(content)}
            self.content[path.name.removesuffix(f".{compression}")] = content
        else:
            self.content[path.name] = shipped
        return path

    def ship(self, key: str, suffix: str, shipped: bytes) -> Path:
        """Add an artifact as it is; nothing is promised of what it may hold compressed."""
        name = f"fedora-coreos-{self.release}-{key}.{self.arch}" + (f".{suffix}" if suffix else "")
        path = self.directory / name
        path.write_bytes(shipped)
        self.images[key] = {"path": name, "sha256": sha256(shipped), "size": len(shipped)}
        return path

    def copy(self, root: Path) -> ReleaseMaker:
        """Return the same release below another directory."""
        shutil.copytree(self.root, root)
        other = copy.deepcopy(self)
        other.root = root
        other.directory = root / self.directory.relative_to(self.root)
        return other

    def replace(self, key: str, shipped: bytes, *, metadata: bool) -> None:
        """Put other bytes in an artifact's place; with ``metadata`` the metadata's sha256 and size follow."""
        image = self.images[key]
        (self.directory / image["path"]).write_bytes(shipped)
        if metadata:
            image |= {"sha256": sha256(shipped), "size": len(shipped)}
            self.finish()

    def shipped(self, key: str) -> bytes:
        """Return an artifact's bytes as they lie there."""
        name: str = self.images[key]["path"]
        return (self.directory / name).read_bytes()

    def finish(self, **extra: object) -> Path:
        """Write the metadata and return the build directory."""
        meta = {"buildid": self.release, "coreos-assembler.basearch": self.arch, "images": self.images, **extra}
        (self.directory / "meta.json").write_text(json.dumps(meta))
        arches = sorted(entry.name for entry in self.directory.parent.iterdir())
        builds = {"schema-version": "1.0.0", "builds": [{"id": self.release, "arches": arches}]}
        (self.root / "builds" / "builds.json").write_text(json.dumps(builds))
        return self.root
