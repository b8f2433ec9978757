"""Releases of which nothing but the live ISO is there: the disks that its osmet files tell, and what it boots.

A live system installs the metal disk, of which it has no copy: it makes it of the ostree objects in its root file
system and of an osmet file beside that, which has the disk's sha256 as well. Here the same is done without booting it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rehydrator.disk.scratch import ScratchDirectory
from rehydrator.disk.sink import FileSink, HashSink, Tee, copy
from rehydrator.disk.source import FileSource, Source, Window
from rehydrator.disk.spool import write_sparse
from rehydrator.errors import MismatchError, OutputError, RehydratorError, UnsupportedError
from rehydrator.layers.xz import XzLayer
from rehydrator.manifest.schema import Identity
from rehydrator.osmet.unpack import unpacked
from rehydrator.progress import Progress, Task
from rehydrator.release.artifact import Artifact, Inputs, Release
from rehydrator.release.live_image import ROOTFS, LiveImage, OsmetFile

_PLATFORM = "metal"
_METAL = f"-{_PLATFORM}."  # in the name of metal's disk; other files of the release have another word there
_FORMATS = {512: "raw", 4096: "4k.raw"}  # by the size of sectors
# What machines get over a network: where it lies in the image, its role, and the end of its name without architecture.
_BOOTED = (
    ("/images/pxeboot/vmlinuz", "kernel", ""),
    ("/images/pxeboot/kernel.img", "kernel", ""),  # s390x
    ("/images/pxeboot/initrd.img", "initramfs", ".img"),
    (ROOTFS, "rootfs", ".img"),
)


@contextmanager
def unpacked_release(iso: Path, store: Path, wanted: Callable[[str], bool], progress: Progress) -> Iterator[Inputs]:
    """Give the release that a live ISO holds, if its architecture is wanted.

    Its files are made beside ``store`` and stay as long as this context. Raises InputError for what is no live ISO,
    UnsupportedError for one without osmet files or whose root file system is not read, CorruptError for a damaged one,
    MismatchError where a disk does not come out as its osmet file promises, and OutputError where there is no room.
    """
    with closing(FileSource(iso)) as source:
        image = LiveImage(source, iso)
        if not wanted(image.arch):
            yield Inputs(())
            return
        scratch = ScratchDirectory(f".{store.name}.unpacking-", store.parent)
        try:
            yield _Unpacking(image, source, scratch.path, progress).run()
        finally:
            scratch.remove()


class _Unpacking:
    """Makes the files of one image's release in a directory, under names of its own."""

    def __init__(self, image: LiveImage, source: Source, directory: Path, progress: Progress) -> None:
        self._image = image
        self._source = source
        self._directory = directory
        self._progress = progress

    def run(self) -> Inputs:
        """Make all of them."""
        image = self._image
        disks = [self._disk(file) for file in image.osmets]
        iso = self._iso()
        release = Release(image.arch, image.release, (*disks, iso, *self._booted()))
        note = f"{image.arch}: no metadata tells the sha256 of {iso.name}; it is {iso.sha256}"
        return Inputs((release,), notes=(note,))

    def _identity(self, kind: str, role: str = "disk") -> Identity:
        return Identity(_PLATFORM, self._image.arch, kind, role, self._image.release)

    def _disk(self, file: OsmetFile) -> Artifact:
        """Make a disk and compare its sha256."""
        osmet = file.content
        sector = osmet.header.sector_size
        if sector not in _FORMATS:
            raise UnsupportedError(
                f"the osmet file of {file.disk_name} is for other disks",
                path=self._image.path,
                expected=f"sectors of {' or '.join(map(str, _FORMATS))} bytes",
                actual=sector,
            )
        path = self._directory / _FORMATS[sector]
        with self._progress.task(f"unpack {file.disk_name}") as task:
            try:
                self._write_disk(file, path, task)
            except RehydratorError as error:
                raise error.located(self._image.path) from error
        return Artifact(self._identity(_FORMATS[sector]), path, osmet.checksum.hex(), osmet.size, title=file.disk_name)

    def _write_disk(self, file: OsmetFile, path: Path, task: Task) -> None:
        osmet = file.content
        stream = Window(file.source, osmet.xz_offset, file.source.size - osmet.xz_offset)
        rest = XzLayer().look(stream, self._image.path).inner
        try:
            with path.open("wb") as out:
                os.ftruncate(out.fileno(), osmet.size)
                for piece in unpacked(osmet, rest, self._image.root):
                    write_sparse(out.fileno(), piece.data, piece.at)
                    task.advance(len(piece.data))
        except OSError as error:
            raise OutputError(
                f"no room for unpacking {file.disk_name}: {error.strerror}",
                hint="Free some space or put the store elsewhere",
            ) from error
        sha256 = HashSink()
        with closing(FileSource(path)) as disk:
            copy(disk, sha256)
        if sha256.hexdigest() != osmet.checksum.hex():
            raise MismatchError(
                f"{file.disk_name} does not come out as its osmet file promises",
                expected=osmet.checksum.hex(),
                actual=sha256.hexdigest(),
                hint="The ISO is damaged, or was put together of parts of several builds",
            )

    def _iso(self) -> Artifact:
        """Return the image itself, with the sha256 that it has."""
        path = self._image.path
        sha256 = HashSink()
        with self._progress.task(f"read {path.name}", self._source.size):
            copy(self._source, sha256)
        signature = path.with_name(f"{path.name}.sig")
        return Artifact(
            self._identity("iso"),
            path,
            sha256.hexdigest(),
            self._source.size,
            signature=signature if signature.is_file() else None,
        )

    def _booted(self) -> Iterator[Artifact]:
        """Copy kernel, initramfs and rootfs out of the image: releases have them as files of their own."""
        for name, role, suffix in _BOOTED:
            content = self._image.file(name)
            if content is None:
                continue
            path = self._directory / role
            sha256 = HashSink()
            with FileSink(path) as sink:
                copy(content, Tee(sha256, sink))
                sink.commit()
            title = self._name(f"live-{role}", suffix)
            yield Artifact(self._identity("pxe", role), path, sha256.hexdigest(), content.size, title=title)

    def _name(self, word: str, suffix: str) -> str:
        """Return the name of a file of the release, by that of its metal disk if releases call theirs so."""
        image = self._image
        names = (file.disk_name.partition(_METAL) for file in image.osmets)
        begin = next((before for before, found, _ in names if found), f"coreos-{image.release}")
        return f"{begin}-{word}.{image.arch}{suffix}"
