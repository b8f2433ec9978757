"""What is fuzzed: each target takes bytes and either accepts them, exactly, or raises a RehydratorError."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from rehydrator.disk.extents import CHUNK, Extent
from rehydrator.disk.gpt import read_table
from rehydrator.disk.source import BytesSource, Source
from rehydrator.errors import CorruptError, RehydratorError
from rehydrator.explain.owners import DiskOwners
from rehydrator.explain.peel import take_off
from rehydrator.intake.decompress import pieces
from rehydrator.layers.base import Unwrapped
from rehydrator.layers.table import FORMATS, Format, format_of, layer_for
from rehydrator.layers.views import view_of
from rehydrator.layers.vmdk import VmdkLayer
from rehydrator.live.minimal import minimal_iso
from rehydrator.live.miniso import minimal_image, read_miniso
from rehydrator.manifest import text
from rehydrator.manifest.schema import Manifest
from rehydrator.release.formats import Compression

from . import osmets, rebuilt, repair
from .errors import IncompleteError, NotExactError
from .mutate import Mutator, mutated_json
from .seeds import SeedMaker, osmet_files

_PATH = Path("fuzzed")
_MAX_CONTENT = 64 << 20
_REPAIR = 0.6
_DAMAGED_SEEDS = 0.5  # of the inputs of a compression; the others are made anew
_WHOLE = 0.7  # of these
_COMPRESSIONS: tuple[Compression, ...] = ("xz", "zip", "gzip")


class Target(msgspec.Struct, frozen=True):
    """A parser: ``inputs`` makes the next damaged input, ``parse`` reads it."""

    name: str
    inputs: Callable[[random.Random], bytes]
    parse: Callable[[bytes], None]


def targets(maker: SeedMaker, manifests: list[bytes]) -> Iterator[Target]:
    """Yield all targets, with their seeds."""
    repairs = {
        "vmdk": repair.vmdk,
        "vhd": repair.vhd,
        "vhdx": repair.vhdx,
        "tar": repair.tar,
        "gzip": repair.gzip,
        "xz": repair.xz,
        "zip": repair.zipped,
    }
    seeds: dict[str, list[bytes]] = {
        "qcow2": list(maker.images("qcow2")),
        "vmdk": list(maker.images("vmdk")),
        "vhd": list(maker.images("vhd")),
        "vhdx": list(maker.images("vhdx")),
        "tar": list(maker.archives()),
        "gzip": list(maker.compressed("gzip")),
        "xz": list(maker.compressed("xz")),
        "zip": list(maker.compressed("zip")),
        "iso": list(maker.isos()),
        "cpio": list(maker.cpio_archives()),
        "squashfs": list(maker.file_systems()),
    }
    inputs = {name: _damaged(row, repairs.get(name)) for name, row in seeds.items()}
    for name, make in (("gzip", rebuilt.gzip_file), ("xz", rebuilt.xz_file), ("zip", rebuilt.zip_file)):
        inputs[name] = _rebuilt(maker.content(), make, inputs[name])
    for item in FORMATS:
        yield Target(item.name, inputs[item.name], _layer_parser(item))
        yield Target(f"{item.name}-look", inputs[item.name], _looker(item))
    yield Target("vmdk-trailing", _damaged(list(maker.streams()), repair.vmdk), _open_trailing)
    yield Target("chain", _damaged(list(maker.chain()), repair.tar), _take_off)
    yield Target("gpt", _damaged([maker.disk()], repair.gpt), lambda data: _read_table(BytesSource(data)))
    yield Target("iso-owners", inputs["iso"], _own)
    yield Target("squashfs-owners", inputs["squashfs"], _own)
    yield Target("erofs-owners", _damaged(list(maker.erofs_file_systems()), None), _own)
    yield Target("osmet", _damaged(list(osmet_files()), None), _read_osmet)
    yield Target("osmet-unpack", _damaged(list(osmet_files()), None), osmets.unpack)
    full = maker.live_iso()
    yield Target("miniso", _damaged([maker.miniso()], None), functools.partial(_unpack_minimal, full))
    yield Target("minimal-iso", _damaged([full], None), lambda data: _look_at(minimal_iso(BytesSource(data))))
    for compression in _COMPRESSIONS:
        yield Target(f"intake-{compression}", inputs[compression], _decompressor(compression))
    yield Target("manifest", _damaged(manifests, None), _read_manifest)
    yield Target("manifest-values", _forged_manifests(manifests), _read_manifest)
    known = [unwrapped for row in seeds.values() for seed in row if (unwrapped := _unwrapped(seed))]
    yield from _record_targets(known)


def _damaged(seeds: list[bytes], fix: Callable[[bytes], bytes] | None) -> Callable[[random.Random], bytes]:
    mutators = [Mutator(seed) for seed in seeds]

    def made(order: random.Random) -> bytes:
        data = order.choice(mutators).mutated(order)
        return fix(data) if fix is not None and order.random() < _REPAIR else data

    return made


def _rebuilt(
    content: bytes, make: Callable[[random.Random, bytes], bytes], damaged: Callable[[random.Random], bytes]
) -> Callable[[random.Random], bytes]:
    """Let some inputs be whole files around damaged content, and some of these be damaged once more."""
    mutator = Mutator(content)

    def made(order: random.Random) -> bytes:
        if order.random() < _DAMAGED_SEEDS:
            return damaged(order)
        file = make(order, mutator.mutated(order))
        return file if order.random() < _WHOLE else Mutator(file).mutated(order)

    return made


# -- layers


@contextmanager
def _told_in_full() -> Iterator[None]:
    """Let pass errors about a file only if they say where, what should be there, what is, and what can be done."""
    try:
        yield
    except RehydratorError as error:
        lacking = [name for name in ("path", "offset", "expected", "actual", "hint") if getattr(error, name) is None]
        if lacking:
            raise IncompleteError(f"{error} lacks {', '.join(lacking)}") from error
        raise


@_told_in_full()
def _read_osmet(data: bytes) -> None:
    osmets.read(data)


def _layer_parser(item: Format) -> Callable[[bytes], None]:
    layer = item.layer

    @_told_in_full()
    def parse(data: bytes) -> None:
        outer = BytesSource(data)
        unwrapped = layer.unwrap(outer, _PATH)
        _look_at(unwrapped.inner)
        layer.describe(unwrapped.record)
        view_of(unwrapped.record)
        record = msgspec.json.decode(msgspec.json.encode(unwrapped.record), type=type(unwrapped.record))
        again = layer.wrap(unwrapped.inner, record, unwrapped.tables)
        if again.size != outer.size:
            raise NotExactError(f"{outer.size} bytes became {again.size}")
        for at in range(0, outer.size, CHUNK):
            length = min(CHUNK, outer.size - at)
            if bytes(again.read(at, length)) != outer.read(at, length):
                raise NotExactError(f"other bytes from {at:#x} on")

    return parse


def _looker(item: Format) -> Callable[[bytes], None]:
    @_told_in_full()
    def parse(data: bytes) -> None:
        looked = item.layer.look(BytesSource(data), _PATH)
        item.layer.describe(looked.record)
        view_of(looked.record)
        _look_at(looked.inner)

    return parse


@_told_in_full()
def _open_trailing(data: bytes) -> None:
    """Read what is not written again; every grain of it is decompressed."""
    looked = VmdkLayer().look(BytesSource(data), _PATH)
    looked.inner.nonzero()
    VmdkLayer().describe(looked.record)
    view_of(looked.record)


def _look_at(source: Source) -> None:
    """Read a few places of what may be a huge source."""
    for at in (0, source.size // 2, source.size - 4096):
        start = max(at, 0)
        source.read(start, min(4096, source.size - start))


def _unwrapped(seed: bytes) -> Unwrapped | None:
    outer = BytesSource(seed)
    found = format_of(outer)
    if found is None:
        return None
    try:
        return found.layer.unwrap(outer, _PATH)
    except RehydratorError:  # a seed that can't be taken apart has no record
        return None


def _take_off(data: bytes) -> None:
    _look_at(take_off(BytesSource(data), _PATH).source)


# -- everything else


def _read_table(disk: Source) -> None:
    end = 0
    for region in read_table(disk).regions:
        if region.extent.offset != end:
            raise NotExactError("regions leave a gap or overlap")
        end = region.extent.end
    if end != disk.size:
        raise NotExactError("regions do not cover the disk")


def _own(data: bytes) -> None:
    """Name every byte of an image, as explain does."""
    owners = DiskOwners(BytesSource(data))
    end = 0
    for owner in owners.owners([Extent(0, len(data))]):
        if owner.extent.offset != end or not owner.extent.length:
            raise NotExactError(f"owners leave a gap or overlap at {end:#x}")
        end = owner.extent.end
    if end != len(data):
        raise NotExactError("owners do not cover the image")
    filesystems = filter(None, map(owners.filesystem, owners.partitions))
    health = [item for filesystem in filesystems for item in filesystem.health()]
    if owners.live is not None:
        for area in owners.live.areas:
            owners.live.kernel_arguments(area.path)
            owners.live.ignition_config(area.path)
    if health or owners.problems or owners.table_problem:
        raise CorruptError("something is wrong with it")


def _unpack_minimal(full: bytes, data: bytes) -> None:
    image = minimal_image(BytesSource(full), read_miniso(data).content)
    _look_at(image)


def _decompressor(compression: Compression) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        with tempfile.NamedTemporaryFile(prefix="fuzz-containers-") as stream:
            stream.write(data)
            stream.flush()
            for _ in pieces(Path(stream.name), compression, _MAX_CONTENT):
                pass

    return parse


def _read_manifest(data: bytes) -> None:
    manifest = text.decode(data, Manifest, _PATH)
    for record in manifest.layers:
        layer_for(record).describe(record)


def _forged_manifests(manifests: list[bytes]) -> Callable[[random.Random], bytes]:
    documents = [json.loads(item) for item in manifests]
    return lambda order: msgspec.json.encode(mutated_json(order, order.choice(documents)))


def _record_targets(known: list[Unwrapped]) -> Iterator[Target]:
    """Yield a target per format: forged records around the disk of a seed."""
    for item in FORMATS:
        fitting = [one for one in known if one.record.__struct_config__.tag == item.name]
        if fitting:
            yield _record_target(item.name, fitting)


def _record_target(name: str, known: list[Unwrapped]) -> Target:
    documents: list[Any] = [
        {"number": number, "record": msgspec.to_builtins(one.record)} for number, one in enumerate(known)
    ]

    def inputs(order: random.Random) -> bytes:
        document = order.choice(documents)
        record = mutated_json(order, document["record"])
        return msgspec.json.encode({"number": document["number"], "record": record})

    def parse(data: bytes) -> None:
        document = json.loads(data)
        one = known[document["number"]]
        record = text.decode(msgspec.json.encode(document["record"]), type(one.record), _PATH)
        layer = layer_for(record)
        layer.describe(record)
        view_of(record)
        _look_at(layer.wrap(one.inner, record, one.tables))

    return Target(f"{name}-record", inputs, parse)
