"""Good files to damage, made by the real tools around one small disk."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rehydrator.codecs.bincode import Integers
from rehydrator.osmet.c_osmet import DIGEST_SIZE, Mapping, Osmet, OsmetFileHeader, OsmetPartition
from rehydrator.osmet.table import pack
from release_builder import miniso
from release_builder.oci import make_oci_archive
from release_builder.tools import Runner

from .vmdk_stream import GRAIN, write_stream

MIB = 1 << 20
_DISK_SIZE = (3 << 20) + 512
_PIECES = 12
_SMALL_FILE_SIZE = 12_000
_FILE_SIZE = 200_000  # of what is compressed: each input is decompressed and compressed again as a whole

# container, options of qemu-img
_IMAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("qcow2", ("qcow2",)),
    ("qcow2", ("qcow2", "-o", "compat=0.10")),
    ("qcow2", ("qcow2", "-o", "cluster_size=1024")),
    ("qcow2", ("qcow2", "-c")),
    ("qcow2", ("qcow2", "-c", "-o", "compression_type=zstd")),
    ("vmdk", ("vmdk", "-o", "subformat=streamOptimized")),
    ("vmdk", ("vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic,compat6")),
    ("vmdk", ("vmdk", "-o", "subformat=streamOptimized,hwversion=9")),
    ("vmdk", ("vmdk", "-o", "subformat=monolithicSparse")),
    ("vhd", ("vpc", "-o", "subformat=fixed,force_size")),
    ("vhd", ("vpc", "-o", "subformat=dynamic,force_size")),
    ("vhdx", ("vhdx", "-o", "block_size=1M")),
)
_ARCHIVES = (("--format=oldgnu", "--sparse"), ("--format=ustar",), ("--format=posix",))
_COMPRESSORS = (
    ("gzip", "-9"),
    ("gzip", "-6", "-n"),
    ("xz", "-1", "-T1"),
    ("xz", "-0", "-T2", "--block-size=64KiB"),
    ("zip", "-q", "-9"),
    ("zip", "-q", "-0"),
)
_FILE_SYSTEMS = (
    ("-comp", "gzip"),
    ("-comp", "gzip", "-noI", "-noD", "-noF", "-noX", "-noId"),
    ("-comp", "xz", "-Xbcj", "x86"),
    ("-comp", "zstd"),
)
_KARGS_ROOM = 1024
_KARGS_INFO = json.dumps(
    {
        "default": "coreos.liveiso=fuzzed quiet",
        "files": [{"path": "EFI/grub.cfg", "offset": 99}],
        "size": _KARGS_ROOM,
    },
    indent=2,
)


def osmet_files() -> Iterator[bytes]:
    """Yield what comes before the xz stream of osmet files, in both encodings."""
    order = random.Random(5)
    for integers in Integers:
        partitions = []
        for start in (MIB, 70 * MIB):
            places = sorted(order.sample(range(1 << 14), 12))
            mappings = [Mapping(order.choice((0, MIB)), 4096 * at, 4096, order.randbytes(DIGEST_SIZE)) for at in places]
            partitions.append(OsmetPartition(start, start + 64 * MIB, mappings))
        header = OsmetFileHeader("0.26.0", 512, "CoreOS", "x86_64")
        yield pack(Osmet(header, partitions, order.randbytes(DIGEST_SIZE), 140 * MIB, integers, 0))


class SeedMaker:
    """Makes seeds in a directory of its own."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._disk = work / "disk.raw"
        self._disk.write_bytes(_content(_DISK_SIZE))
        self._file = work / "file"
        self._file.write_bytes(_content(_FILE_SIZE))
        self._run(
            "sfdisk", "-q", "--no-reread", "--no-tell-kernel", self._disk, text="label: gpt\nsize=2048\nsize=1024\n"
        )

    def _run(self, *command: str | Path, text: str = "") -> None:
        subprocess.run(command, check=True, input=text.encode(), capture_output=True, cwd=self._work)

    def disk(self) -> bytes:
        """Return a disk with a partition table."""
        return self._disk.read_bytes()

    def images(self, container: str) -> Iterator[bytes]:
        """Yield what qemu-img makes of the disk."""
        image = self._work / "image"
        for name, options in _IMAGES:
            if name == container:
                self._run("qemu-img", "convert", "-f", "raw", self._disk, image, "-O", *options)
                yield image.read_bytes()

    def streams(self) -> Iterator[bytes]:
        """Yield a VMDK that was written as a stream, with its directory at the end."""
        image = self._work / "stream"
        write_stream(self.disk()[: _DISK_SIZE // GRAIN * GRAIN], image)
        yield image.read_bytes()

    def archives(self) -> Iterator[bytes]:
        """Yield tar archives of the disk and a small file, and an OCI archive."""
        archive = self._work / "archive"
        (self._work / "small").write_text("{}\n")
        for options in _ARCHIVES:
            self._run("tar", *options, "-cf", archive, "small", self._disk.name)
            yield archive.read_bytes()
        tree = self._work / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "disk").write_bytes(self._disk.read_bytes())
        make_oci_archive(Runner(), tree, archive, "s390x")
        yield archive.read_bytes()

    def isos(self) -> Iterator[bytes]:
        """Yield ISO 9660 images with Rock Ridge and Joliet names and an El Torito boot catalog, by both builders."""
        tree = self._work / "iso"
        for name in ("images/efiboot.img", "EFI/grub.cfg", "a long name of a file in the image"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(_content(_SMALL_FILE_SIZE))
        (tree / "coreos").mkdir(exist_ok=True)
        (tree / "coreos/kargs.json").write_text(_KARGS_INFO)
        image = self._work / "image.iso"
        for builder, boot in (("genisoimage",), "-efi-boot"), (("xorriso", "-as", "mkisofs"), "-eltorito-boot"):
            self._run(*builder, "-V", "fuzzed", "-rational-rock", "-J", "-joliet-long", boot, "images/efiboot.img",
                      "-no-emul-boot", "-o", image, tree)  # fmt: skip
            yield image.read_bytes()

    def _tree(self) -> Path:
        """Return a directory with files of several blocks, small ones, a link and one with holes."""
        tree = self._work / "files"
        if not tree.exists():
            (tree / "etc").mkdir(parents=True)
            for name, size in (("large", 9 * 4096 + 100), ("etc/one", 300), ("etc/two", 5000)):
                (tree / name).write_bytes(_content(1 << 17)[-size:])
            (tree / "etc/link").symlink_to("../large")
            (tree / "etc/again").hardlink_to(tree / "etc/one")
        return tree

    def cpio_archives(self) -> Iterator[bytes]:
        """Yield archives, one of them followed by a second one and a compressed part."""
        archive = self._work / "archive.cpio"
        names = "\n".join(str(path) for path in sorted(self._tree().rglob("*")))
        made = []
        for kind in ("newc", "crc"):
            self._run("cpio", "-o", "-H", kind, "--quiet", "-O", archive, text=names)
            made.append(archive.read_bytes())
        yield from made
        yield made[0] + bytes(64) + made[0] + next(iter(self.compressed("gzip")))

    def file_systems(self) -> Iterator[bytes]:
        """Yield squashfs file systems; of one nothing is compressed, so that damage reaches its tables."""
        image = self._work / "squashfs"
        for options in _FILE_SYSTEMS:
            self._run("mksquashfs", self._tree(), image, "-quiet", "-noappend", "-nopad", "-b", "8K", *options)
            yield image.read_bytes()

    def erofs_file_systems(self) -> Iterator[bytes]:
        """Yield erofs file systems, with compressed files and without."""
        image = self._work / "erofs"
        for options in ((), ("-zlz4hc",)):
            image.unlink(missing_ok=True)
            self._run("mkfs.erofs", *options, image, self._tree())
            yield image.read_bytes()

    def live_iso(self) -> bytes:
        """Return an ISO 9660 image that holds a minimal one."""
        tree = self._work / "live"
        (tree / "EFI").mkdir(parents=True, exist_ok=True)
        arguments = "coreos.liveiso=fuzzed quiet\n".ljust(_KARGS_ROOM, "#")
        files = {"EFI/grub.cfg": f"{' ' * 98}\n{arguments}#", "kargs.json": _KARGS_INFO, "miniso.dat": "\0" * 16384}
        for name, text in files.items():
            path = tree / ("coreos" if "/" not in name else "") / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        (tree / "rootfs.img").write_bytes(_content(_SMALL_FILE_SIZE))
        full, minimal = self._work / "full.iso", self._work / "minimal.iso"
        for image in (full, minimal):
            self._run("genisoimage", "-V", "fuzzed", "-rational-rock", "-o", image, tree)
            for name in ("rootfs.img", "coreos/miniso.dat"):
                (tree / name).unlink(missing_ok=True)
        miniso.pack(full, minimal)
        return full.read_bytes()

    def miniso(self) -> bytes:
        """Return the file that tells how the minimal image is made."""
        image = self.live_iso()
        return image[image.index(b"MINISO\0\0") :][:16384]

    def content(self) -> bytes:
        """Return a few kilobytes of what is compressed."""
        return _content(_SMALL_FILE_SIZE)

    def compressed(self, program: str) -> Iterator[bytes]:
        """Yield a file, compressed."""
        for command in _COMPRESSORS:
            if command[0] == program:
                made = self._work / f"file.{program}"
                made.unlink(missing_ok=True)
                if program == "zip":
                    self._run(*command, made, self._file.name)
                else:
                    with made.open("wb") as stream:
                        subprocess.run([*command, "-c", self._file], check=True, stdout=stream)
                yield made.read_bytes()

    def chain(self) -> Iterator[bytes]:
        """Yield a tar of a gzip of a tar of a qcow2, as in an OCI archive."""
        for name, options in _IMAGES[:1]:
            self._run("qemu-img", "convert", "-f", "raw", self._disk, f"disk.{name}", "-O", *options)
            self._run("tar", "--format=posix", "-cf", "layer", f"disk.{name}")
            self._run("gzip", "-f", "-S", ".compressed", "layer")
            self._run("tar", "--format=posix", "-cf", "archive", "small", "layer.compressed")
            yield (self._work / "archive").read_bytes()


def _content(size: int) -> bytes:
    """Return zeros with pieces of noise and text in them."""
    order = random.Random(1)
    content = bytearray(size)
    for _ in range(_PIECES):
        at = order.randrange(size // 4096) * 4096
        content[at : at + 600] = order.randbytes(200) + b"text " * 80
    return bytes(content)
