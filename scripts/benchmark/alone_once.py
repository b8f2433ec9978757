"""Run by the benchmark with rehydrator's own Python: what compressing and hashing a store's artifacts takes alone.

``alone_once.py STORE ARCH DIRECTORY`` hashes each artifact's file in DIRECTORY, and gives the encoders that its
containers need the content that they compress; both from memory. Prints the CPU seconds of each artifact as JSON: the
name of the file, those of hashing, those of compressing.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from rehydrator.codecs import deflate
from rehydrator.codecs.deflate import StreamEncoder
from rehydrator.codecs.deflate_stream import stream_encoder
from rehydrator.codecs.patches import Patches
from rehydrator.disk.extents import CHUNK, Data, chunks
from rehydrator.disk.source import FileSource, Source, Window
from rehydrator.engines.direct import artifact_source
from rehydrator.fs.squashfs.content import FilesContent
from rehydrator.fs.squashfs.tables import open_file_system
from rehydrator.layers.c_vmdk import SECTOR
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.qcow2_image import packing_of
from rehydrator.layers.qcow2_record import Qcow2Record
from rehydrator.layers.squashfs_codec import encoder as squashfs_encoder
from rehydrator.layers.squashfs_record import SquashfsRecord
from rehydrator.layers.table import layer_for
from rehydrator.layers.vmdk_record import VmdkRecord
from rehydrator.layers.xz import XzLayer
from rehydrator.manifest.schema import DerivedOsmet, Manifest, Part, Parts
from rehydrator.osmet.table import read_osmet
from rehydrator.store.reader import Store

_ZEROS = bytes(CHUNK)


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of ``work`` in this process and in those that it starts."""

    def used() -> float:
        children = getrusage(RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    before = used()
    work()
    return used() - before


def hashing(path: Path) -> float:
    """Hash a file; its holes as the zeros that they are."""
    sha256 = hashlib.sha256()
    taken = 0.0
    with FileSource(path) as source:
        at = 0
        for offset, length in [*chunks(source.extents()), (source.size, 0)]:
            data = source.read(offset, length)
            taken += seconds(partial(_update, sha256, offset - at, data))
            at = offset + length
    return taken


def _update(sha256: hashlib._Hash, zeros: int, data: Data) -> None:
    for done in range(0, zeros, CHUNK):
        sha256.update(_ZEROS[: zeros - done])
    sha256.update(data)


def _exhaust(encode: StreamEncoder, content: list[Data]) -> None:
    for _piece in encode(content):
        pass


def compressing(manifest: Manifest, store: Store) -> float:
    """Compress what each container of the artifact compresses."""
    taken = 0.0
    for number, record in enumerate(manifest.layers, 1):
        inner = artifact_source(manifest, store, without=number)
        match record:
            case GzipRecord():
                encode = stream_encoder(record.deflate)
                content = [inner.read(at, min(CHUNK, inner.size - at)) for at in range(0, inner.size, CHUNK)]
                taken += seconds(partial(_exhaust, encode, content))
            case VmdkRecord():
                encoder = deflate.encoder(record.deflate)
                for chunk in pieces(inner, record.grain_size * SECTOR):
                    taken += seconds(partial(encoder.compress, chunk, deflate.USUAL))
            case Qcow2Record() if record.encoder:
                packing = packing_of(record, Patches())
                for chunk in pieces(inner, record.cluster_size):
                    taken += seconds(partial(packing.encoder.compress, chunk, packing.shape))
    return taken


def compressing_parts(manifest: Manifest, file: Path) -> float:
    """Compress what lies in the file systems and the osmet files of an archive, whose file is there."""
    if not isinstance(manifest.body, Parts):
        return 0.0
    taken = 0.0
    with FileSource(file) as source:
        inner: Source = source
        for record in manifest.layers:
            inner = layer_for(record).look(inner, file).inner
        at = 0
        for part in manifest.body.parts:
            match part:
                case Part(layers=[SquashfsRecord() as record, *_]):
                    taken += _blocks(Window(inner, at, part.size), record, file)
                case Part(body=DerivedOsmet()):
                    taken += _stream(Window(inner, at, part.size), file)
            at += part.size
    return taken


def _blocks(image: Source, record: SquashfsRecord, path: Path) -> float:
    """Compress the blocks of a squashfs; those of its tables are next to nothing."""
    opened = open_file_system(image)
    made = squashfs_encoder(record.encoder, opened.compression, record.options, record.block_size)
    files = FilesContent(opened, path)
    packed = [number for number, block in enumerate(opened.plan.blocks) if block.packed]
    return sum(seconds(partial(made.compress, files.block(number))) for number in packed)


def _stream(osmet: Source, path: Path) -> float:
    """Compress what the stream of an osmet file holds."""
    stream = Window(osmet, at := read_osmet(osmet, path).xz_offset, osmet.size - at)
    content = XzLayer().look(stream, path).inner
    compressor = lzma.LZMACompressor(preset=9)
    read = (bytes(content.read(at, min(CHUNK, content.size - at))) for at in range(0, content.size, CHUNK))
    return sum(seconds(partial(compressor.compress, piece)) for piece in read)


def pieces(disk: Source, size: int) -> Iterator[bytes]:
    """Yield the chunks of a disk that are not zero."""
    last = -1
    for offset, length in disk.nonzero():
        for number in range(max(offset // size, last + 1), -(-(offset + length) // size)):
            yield bytes(disk.read(number * size, min(size, disk.size - number * size)))
            last = number


def main(root: Path, arch: str, directory: Path) -> None:
    """Measure every artifact."""
    with Store(root) as store:
        rows = [
            (file.name, hashing(file), compressing(item, store) + compressing_parts(item, file))
            for item in store.manifests(arch)
            for file in [directory / item.content.name]
        ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
