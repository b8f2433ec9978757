"""A store as layers of an image: one for each architecture's canonical disk, one for everything else.

Releases that share a canonical disk share its layer. A layer is a function of the files in it: they are sorted, owned
by root, and of a fixed mode and time, so that making it again gives the same digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import msgspec

from rehydrator.disk.extents import CHUNK
from rehydrator.disk.source import FileSource
from rehydrator.layers.c_tar import BLOCKSIZE
from rehydrator.manifest.schema import File
from rehydrator.store.files import damaged
from rehydrator.store.reader import Store

PLACE = PurePosixPath("usr/share/rehydrator/store")  # in the image
_OWN = len(PLACE.parts) - 2  # the directories from here on are not those of the base
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755


class StoreLayer(msgspec.Struct, frozen=True):
    """What a layer holds: a word for it, and files of the store."""

    what: str
    files: list[File]


def store_layers(store: Store) -> list[StoreLayer]:
    """Return the layers of a store, those that change least first."""
    canonicals = {arch: store.arch(arch).canonical.file for arch in store.architectures}
    apart = {file.name for file in canonicals.values()}
    rest = [store.index_file, *(file for file in store.files() if file.name not in apart)]
    return [
        *(StoreLayer(f"the canonical disk of {arch}", [file]) for arch, file in canonicals.items()),
        StoreLayer("the index, the manifests and the blobs", rest),
    ]


def layer_tar(layer: StoreLayer, store: Store) -> Iterator[bytes]:
    """Yield the layer as a tar stream; each file's digest is compared, at its end, with that of the index."""
    for name in _directories(file.name for file in layer.files):
        yield _header(name, tarfile.DIRTYPE, 0, _DIRECTORY_MODE)
    for file in sorted(layer.files, key=lambda file: file.name):
        yield _header(str(PLACE / file.name), tarfile.REGTYPE, file.size, _FILE_MODE)
        yield from _content(file, store)
        yield bytes(-file.size % BLOCKSIZE)
    yield bytes(2 * BLOCKSIZE)


def _directories(names: Iterable[str]) -> Sequence[str]:
    """Return the directories above the files of a layer, parents first, without those of every system."""
    found = {parent for name in names for parent in (PLACE / name).parents}
    return sorted(str(path) for path in found if len(path.parts) > _OWN)


def _header(name: str, kind: bytes, size: int, mode: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, size, mode
    return info.tobuf(tarfile.PAX_FORMAT)


def _content(file: File, store: Store) -> Iterator[bytes]:
    path = store.path(file)
    digest = hashlib.sha256()
    with contextlib.closing(FileSource(path)) as source:
        if source.size != file.size:
            raise damaged(path, f"{file.size} bytes", f"{source.size} bytes")
        for offset in range(0, file.size, CHUNK):
            data = source.read(offset, min(CHUNK, file.size - offset))
            digest.update(data)
            yield data
    if digest.hexdigest() != file.sha256:
        raise damaged(path, file.sha256, digest.hexdigest())
