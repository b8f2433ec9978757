"""Where rehydrated files go: a directory, an open stream, or a tar archive. Each is whole, or nothing is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO

import msgspec

from rehydrator.codecs.compressing import Compressor
from rehydrator.codecs.compressing_sink import compressed
from rehydrator.disk.sink import FileSink, Sink, StreamSink
from rehydrator.errors import UsageError
from rehydrator.layers.c_tar import BLOCKSIZE
from rehydrator.manifest.schema import Manifest
from rehydrator.progress import Progress
from rehydrator.rehydrate import Options, emit, made_directory, product_name, product_size
from rehydrator.store.depot import Depot, Signature
from rehydrator.together import Keeping, side_by_side

_TAR = ".tar"
_SHORT = frozenset({".tgz", ".txz", ".tzst", ".tbz", ".tbz2", ".zip"})  # hardly anybody names a directory so


class Written(msgspec.Struct, frozen=True):
    """A file that was written: its path, or its name in an archive, and its size in bytes.

    ``content_sha256`` is that of its content before ``--compress``, null where it was not computed.
    """

    path: str
    size: int
    content_sha256: str | None


class Target(msgspec.Struct, frozen=True):
    """What was asked for: a directory, an archive by its name, or "-" for ``stream``.

    ``mtime`` is the time of the files in an archive, in seconds since 1970.
    """

    dest: str
    mtime: int = 0
    stream: BinaryIO | None = None


def write(
    target: Target, manifests: Sequence[Manifest], depot: Depot, progress: Progress, options: Options
) -> list[Written]:
    """Write artifacts to where ``target`` says and return the files; a stream of one file needs no archive."""
    alone = msgspec.structs.replace(options, jobs=1)
    if target.stream is not None:
        with compressed(StreamSink(target.stream, "standard output"), options.compressor) as sink:
            if len(manifests) > 1 or options.signatures:
                return to_tar(manifests, depot, sink, target.mtime, progress, alone)
            emit(manifests[0], depot, [sink], progress, alone)
            return []
    archive = archive_at(Path(target.dest), options.compressor)
    if archive is None:
        return to_directory(manifests, depot, Path(target.dest), progress, options)
    return _to_archive(archive, manifests, depot, target.mtime, progress, alone)


class Archive(msgspec.Struct, frozen=True):
    """An archive to be written, and what compresses it."""

    path: Path
    compressor: Compressor | None


def archive_at(dest: Path, compressor: Compressor | None) -> Archive | None:
    """Return the archive that ``dest`` names, None where that is a directory.

    A name that ends with .tar gets the compressor's suffix, one with the suffix of a compressor has it used. Raises
    UsageError for the name of another kind of archive.
    """
    if dest.is_dir():
        return None
    if dest.suffix == _TAR:
        return Archive(dest if compressor is None else dest.with_name(dest.name + compressor.suffix), compressor)
    for told in Compressor:
        if dest.name.endswith(_TAR + told.suffix):
            if compressor not in {None, told}:
                raise UsageError("the archive's name is that of another compressor", path=dest, actual=compressor)
            return Archive(dest, told)
    if dest.suffixes[-2:-1] == [_TAR] or dest.suffix in _SHORT:
        names = ", ".join(_TAR + told.suffix for told in Compressor)
        raise UsageError("an archive with this name can't be written", path=dest, expected=f"{_TAR}, {names}")
    return None


def to_directory(
    manifests: Sequence[Manifest], depot: Depot, directory: Path, progress: Progress, options: Options
) -> list[Written]:
    """Write each artifact into ``directory`` under its upstream name, with the compressor's suffix.

    A file that exists is replaced, once the new one is complete and compared. A signature follows its file.
    """
    signatures = dict(zip(_names(manifests, options), _signatures(manifests, depot, options), strict=True))
    made_directory(directory)

    def write(manifest: Manifest, shared: Depot) -> list[Written]:
        name = product_name(manifest, options)
        suffix = options.compressor.suffix if options.compressor else ""
        told = _write_file(directory / (name + suffix), manifest, shared, progress, options)
        signature = signatures[name]
        return [told] if signature is None else [told, _write_signature(directory, signature)]

    made = side_by_side(manifests, depot, write, options.jobs, progress)
    return [written for several in made for written in several]


def _write_file(path: Path, manifest: Manifest, depot: Depot, progress: Progress, options: Options) -> Written:
    with FileSink(path, sparse=options.compressor is None) as file, ExitStack() as stack:
        sink = stack.enter_context(compressed(file, options.compressor))

        def finish() -> None:
            stack.close()
            progress.check()
            file.commit()

        sha256 = emit(manifest, depot, [sink], progress, options, finish)
        return Written(str(path), file.size, sha256)


def _write_signature(directory: Path, signature: Signature) -> Written:
    path = directory / signature.name
    with FileSink(path, sparse=False) as file:
        file.write(signature.data)
        file.commit()
    return Written(str(path), len(signature.data), hashlib.sha256(signature.data).hexdigest())


def _to_archive(
    archive: Archive, manifests: Sequence[Manifest], depot: Depot, mtime: int, progress: Progress, options: Options
) -> list[Written]:
    """Write several files as an archive, which appears when all of them are right."""
    made_directory(archive.path.parent)
    with FileSink(archive.path, sparse=False) as file:
        with compressed(file, archive.compressor) as sink:
            written = to_tar(manifests, depot, sink, mtime, progress, options)
        file.commit()
    return written


def to_tar(
    manifests: Sequence[Manifest], depot: Depot, sink: Sink, mtime: int, progress: Progress, options: Options
) -> list[Written]:
    """Write several files as a GNU tar archive in store order; without its trailer unless all of them are right.

    The same files and ``mtime``, in seconds since 1970, give the same bytes.
    """
    with closing(Keeping(depot, manifests)) as keeping:
        return _to_tar(manifests, keeping, sink, mtime, progress, options)


def _to_tar(
    manifests: Sequence[Manifest], depot: Depot, sink: Sink, mtime: int, progress: Progress, options: Options
) -> list[Written]:
    names = _names(manifests, options)
    signatures = _signatures(manifests, depot, options)
    written = []
    for manifest, name, signature in zip(manifests, names, signatures, strict=True):
        size = product_size(manifest, depot, options)
        sink.write(tar_header(name, size, mtime))
        sha256 = emit(manifest, depot, [sink], progress, options)
        sink.skip(-size % BLOCKSIZE)
        written.append(Written(name, size, sha256))
        if signature is not None:
            size = len(signature.data)
            sink.write(tar_header(signature.name, size, mtime) + signature.data)
            sink.skip(-size % BLOCKSIZE)
            written.append(Written(signature.name, size, hashlib.sha256(signature.data).hexdigest()))
    sink.skip(2 * BLOCKSIZE)
    return written


def tar_header(name: str, size: int, mtime: int) -> bytes:
    """Return the tar header of a file: owned by root, mode 0644."""
    import tarfile  # noqa: PLC0415 - importing it takes longer than much of what is asked for, mostly without a tar

    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    info.mtime = mtime
    return info.tobuf(tarfile.GNU_FORMAT)


def _names(manifests: Sequence[Manifest], options: Options) -> list[str]:
    """Return the names of the files that are asked for, all of which can be given and have names of their own."""
    names = [product_name(manifest, options) for manifest in manifests]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError("two artifacts have the same file name", actual=name)
        seen.add(name)
    return names


def _signatures(manifests: Sequence[Manifest], depot: Depot, options: Options) -> list[Signature | None]:
    """Return the signatures of the shipped files where they are asked for; one that is missing is an error."""
    if not options.signatures:
        return [None] * len(manifests)
    signatures = [depot.signature(manifest) for manifest in manifests]
    missing = [item.shipped.name for item, found in zip(manifests, signatures, strict=True) if found is None]
    if missing:
        raise UsageError(
            f"the store holds no signature of {', '.join(missing)}",
            hint="The release had none beside these files; leave out --signatures for them",
        )
    return signatures
