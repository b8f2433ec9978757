"""Run by the benchmark with rehydrator's own Python: ``literals_once.py STORE ARCH``.

Prints as JSON, for each disk of a store that was put together of parts of others, what its literal bytes belong to, and
what they take compressed by themselves as the store compresses all of them: behind the canonical's own metadata.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import zstandard

from rehydrator.disk.source import Source
from rehydrator.engines.direct import body_source, segments_of
from rehydrator.literals import Literals, literals_by_owner
from rehydrator.manifest.schema import Relocated
from rehydrator.release.formats import LIVE_CONTAINERS, parse_format
from rehydrator.relocation.prefix import prefix_source
from rehydrator.store.canonical import decode_extents
from rehydrator.store.reader import Store

_LEVEL = 19
_WINDOW_LOG = 27


def _compressor(store: Store, arch: str, body: Relocated) -> zstandard.ZstdCompressor:
    before = b""
    if body.prefix is not None:
        disk = store.canonical(arch)
        source = prefix_source(disk, decode_extents(store.small_blob(body.prefix), disk.size))
        before = bytes(source.read(0, source.size))
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=_WINDOW_LOG, enable_ldm=True)
    known = zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=known if before else None)


def _packed(compressor: zstandard.ZstdCompressor, disk: Source, item: Literals) -> int:
    return len(compressor.compress(b"".join(bytes(disk.read(*extent)) for extent in item.extents)))


def main(place: str, arch: str) -> None:
    """Go through the disks."""
    told = {}
    with Store(Path(place)) as store:
        for manifest in store.manifests(arch):
            body = manifest.body
            live = parse_format(manifest.artifact.format).container in LIVE_CONTAINERS
            if live or not isinstance(body, Relocated):
                continue
            disk = body_source(manifest, store)
            compressor = _compressor(store, arch, body)
            told[manifest.artifact.key] = {
                "data": disk.nonzero().total,
                "stored": sum(ref.size for ref in (body.segments, body.literals, body.prefix) if ref),
                "owners": [
                    {"name": item.name, "bytes": item.size, "packed": _packed(compressor, disk, item)}
                    for item in literals_by_owner(disk, segments_of(body, store))
                ],
            }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
