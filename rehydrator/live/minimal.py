"""The minimal ISO as ``coreos-installer iso extract minimal-iso`` writes it.

It boots without a root file system of its own, which it fetches from where a kernel argument says. The argument that
would let it look for one in the image is taken out, also of those that count as the image's default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from rehydrator.disk.extents import CHUNK, Extent, chunks
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import Source
from rehydrator.errors import CorruptError, UnsupportedError, UsageError
from rehydrator.fs.iso9660.iso9660 import Iso9660
from rehydrator.live.c_embed import KARGS_INFO, KargsInfo
from rehydrator.live.embed import KARGS_AREA, Area, EmbedAreas
from rehydrator.live.miniso import minimal_image, miniso_node, read_miniso

_LIVE_ISO = "coreos.liveiso="
_ROOTFS = "coreos.live.rootfs_url="


def minimal_iso(full: Source, rootfs_url: str = "") -> Source:
    """Return the minimal ISO of the live ISO ``full``, which fetches its root file system from ``rootfs_url``.

    Without one the user has to add the argument. Raises UnsupportedError for an image that can't give one, CorruptError
    where what comes out is not what the image promises, UsageError for a URL that is none.
    """
    if any(letter.isspace() for letter in rootfs_url):
        raise UsageError("a URL has no spaces", actual=rootfs_url)
    iso = Iso9660(full)
    node = miniso_node(iso)
    if node is None:
        raise UnsupportedError("this live ISO does not hold a minimal one", hint="Those of 2021 and later do")
    miniso = read_miniso(iso.content(node)).content
    minimal = minimal_image(full, miniso)
    _check(minimal, miniso.digest)
    return _with_arguments(minimal, rootfs_url)


def _check(minimal: Source, digest: bytes) -> None:
    actual = hashlib.sha256()
    for piece in chunks([Extent(0, minimal.size)], CHUNK):
        actual.update(minimal.read(*piece))
    if actual.digest() != digest:
        raise CorruptError("the minimal ISO has another sha256", expected=digest.hex(), actual=actual.hexdigest())


def _with_arguments(minimal: Source, rootfs_url: str) -> Source:
    """Change the kernel arguments of an image, and what it calls its default."""
    iso = Iso9660(minimal)
    embedded = EmbedAreas(minimal, iso)
    areas = [area for area in embedded.areas if area.structure == KARGS_AREA]
    arguments = embedded.kernel_arguments(areas[0].path) if areas else None
    node = iso.find(KARGS_INFO)
    if arguments is None or node is None:
        raise UnsupportedError("the minimal ISO does not tell where its kernel arguments are")
    default = _without(arguments)
    image = Overlay(minimal)
    for area in areas:
        image.write(
            area.extent.offset, _area_bytes(area, f"{default} {_ROOTFS}{rootfs_url}" if rootfs_url else default)
        )
    info = msgspec.json.decode(iso.content(node), type=KargsInfo)
    text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(info, default=default)), indent=2)
    if len(text) > node.size:
        raise UnsupportedError("kargs.json has no room", expected=f"at most {node.size} bytes", actual=len(text))
    image.write(node.extents[0].offset, text.ljust(node.size))
    return image


def _without(arguments: str) -> str:
    words = list(_liveiso(arguments))
    if not words:
        raise UnsupportedError(f"the minimal ISO has no kernel argument {_LIVE_ISO}", actual=arguments)
    return f" {arguments} ".replace(f" {words[0]} ", " ").strip()


def _liveiso(arguments: str) -> Iterator[str]:
    return (word for word in arguments.split() if word.startswith(_LIVE_ISO))


def _area_bytes(area: Area, arguments: str) -> bytes:
    data = (arguments + area.end).encode()
    if len(data) > area.extent.length:
        raise UnsupportedError(
            "the kernel arguments are too long for the image",
            expected=f"at most {area.extent.length} bytes",
            actual=f"{len(data)} bytes",
        )
    return data.ljust(area.extent.length, area.pad.encode())
