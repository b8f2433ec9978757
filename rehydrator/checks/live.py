"""A live ISO: what firmware starts, what its boot configuration names, kernel, initramfs and root file system."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from rehydrator.boot import architectures
from rehydrator.boot.architectures import Architecture
from rehydrator.boot.programs import HEAD
from rehydrator.checks.finding import Check, Finding, error, judged, ok, warning
from rehydrator.disk.source import Source, Window
from rehydrator.errors import RehydratorError
from rehydrator.fs.cpio.archive import members
from rehydrator.fs.fat.owner import FatFilesystem
from rehydrator.fs.iso9660.c_iso9660 import SECTOR_SIZE, BootEntry
from rehydrator.fs.iso9660.iso9660 import Iso9660, Node
from rehydrator.fs.iso9660.owner import IsoFilesystem
from rehydrator.fs.probe import probe
from rehydrator.live.embed import BOOT_IMAGE, EmbedAreas

_CONFIG = re.compile(r"^/EFI/[^/]+/grub\.cfg$|^/isolinux/isolinux\.cfg$|^/boot/grub/grub\.cfg$")
_KERNEL = re.compile(r"^\s*(?:linux|linuxefi|linux16|kernel)\s+(/?\S+)(.*)$", re.MULTILINE)
_INITRD = re.compile(r"^\s*(?:initrd|initrdefi|initrd16)\s+(.+)$", re.MULTILINE)
_INITRD_WORD = re.compile(r"(?:^|\s)initrd=(\S+)")
_LIVE = re.compile(r"(?:^|\s)coreos\.liveiso=(\S+)")
_MAX_CONFIG = 1 << 20
_CDBOOT = "/images/cdboot.img"
_EFIBOOT = "/images/efiboot.img"
_KERNELS = ("/images/pxeboot/vmlinuz", "/images/kernel.img")
_INITRDS = ("/images/pxeboot/initrd.img", "/images/initrd.img")
_ROOTFS = "/images/pxeboot/rootfs.img"
_ROOTS = ("root.squashfs", "root.erofs")


class LiveImage(msgspec.Struct, frozen=True):
    """An ISO that is checked, and what its name tells of the architecture."""

    source: Source
    filesystem: IsoFilesystem
    named: Architecture | None

    @property
    def iso(self) -> Iso9660:
        """The reader."""
        return self.filesystem.reader

    def node(self, path: str) -> Node | None:
        """Return a file by its path, which may lack the first slash."""
        node = self.iso.nodes.get("/" + path.lstrip("/"))
        return node if node is not None and not node.directory else None

    def head(self, path: str) -> bytes | None:
        """Return the begin of a file, None where there is none."""
        node = self.node(path)
        if node is None:
            return None
        content = self.iso.source(node)
        return bytes(content.read(0, min(HEAD, content.size)))

    @property
    def architecture(self) -> Architecture | None:
        """The architecture by name, else by the kernel."""
        heads = (head for path in _KERNELS if (head := self.head(path)) is not None)
        return self.named or next((found for head in heads if (found := architectures.by_kernel(head))), None)

    @property
    def live(self) -> bool:
        """Whether there is anything of a live system."""
        return any(self.node(path) for path in (*_KERNELS, *_INITRDS, _ROOTFS))

    def configs(self) -> Iterator[tuple[str, str]]:
        """Yield the boot configurations: path and text."""
        for path, node in self.iso.nodes.items():
            if _CONFIG.match(path) and not node.directory and node.size <= _MAX_CONFIG:
                yield path, self.iso.content(node).decode("utf-8", "replace")


def check_live(image: LiveImage) -> Iterator[Finding]:
    """Check all of an ISO that can be checked without starting it."""
    problems = [error(Check.FILESYSTEM, item.name, item.problem, item.offset) for item in image.filesystem.health()]
    yield from problems or [ok(Check.FILESYSTEM, "iso9660", "all directories can be read")]
    if image.architecture is None:
        yield warning(Check.ARCHITECTURE, "", "neither the name nor the kernel tells it")
    else:
        yield ok(Check.ARCHITECTURE, "", image.architecture.name)
    yield from _firmware(image)
    yield from _configs(image)
    yield from _files(image)


def _firmware(image: LiveImage) -> Iterator[Finding]:
    """Check that the boot catalog leads to files, and the program that UEFI starts."""
    places = {extent.offset: node.path for node in image.filesystem.files() for extent in node.extents[:1]}
    entries = [item for item in image.iso.structures if item.fields == BootEntry.FIELDS]
    architecture = image.architecture
    if not entries and not (architecture is not None and architecture.prep):  # Open Firmware looks for a file
        yield error(Check.BOOT_CATALOG, "", "there is none")
    for item in entries:
        entry = BootEntry.parse(image.source.read(*item.extent))
        path = places.get(entry.LoadRBA * SECTOR_SIZE)
        problem = "" if path else f"an entry leads to block {entry.LoadRBA}, where no file begins"
        yield judged(Check.BOOT_CATALOG, path or "", problem, "is started by firmware", item.extent.offset)
    if architecture is not None and architecture.efi is not None:
        head = _efi_program(image, architecture.efi.path)
        problem = "is missing" if head is None else architecture.efi.problem(head)
        yield judged(Check.EFI_LOADER, f"{_EFIBOOT}: {architecture.efi.path}", problem, f"for {architecture.name}")
    if architecture is not None and architecture.zipl:
        yield _cdboot(image, architecture)


def _cdboot(image: LiveImage, architecture: Architecture) -> Finding:
    """Check that the file that s390x starts from is a kernel, and says where its initramfs is."""
    head = image.head(_CDBOOT)
    if head is None:
        return error(Check.BOOT_CONFIG, _CDBOOT, "is missing")
    problem = architecture.kernel_problem(head)
    if not problem and not any(item.structure == BOOT_IMAGE for item in EmbedAreas(image.source, image.iso).areas):
        problem = "does not say where in it the initramfs is"
    return judged(Check.BOOT_CONFIG, _CDBOOT, problem, "has kernel and initramfs")


def _efi_program(image: LiveImage, path: str) -> bytes | None:
    node = image.node(_EFIBOOT)
    found = probe(image.iso.source(node)) if node else None
    if found is None or not isinstance(found.filesystem, FatFilesystem):
        return None
    program = found.filesystem.reader.lookup(path)
    return None if program is None else found.filesystem.reader.content(program)[:HEAD]


def _configs(image: LiveImage) -> Iterator[Finding]:
    """Check that what boot configurations name is there, and that the initramfs will find its ISO."""
    volume = image.iso.primary.description.VolumeIdentifier.decode("latin-1").rstrip()
    for path, text in image.configs():
        kernels = [match[1] for match in _KERNEL.finditer(text)]
        initrds = [name for match in _INITRD.finditer(text) for name in match[1].split()]
        initrds += [name for match in _INITRD_WORD.finditer(text) for name in match[1].split(",")]
        absent = [name for name in (*kernels, *initrds) if image.node(name) is None]
        problem = f"names {', '.join(absent)}, which is missing" if absent else ""
        if not kernels and not path.startswith("/boot/"):  # grub2-mkrescue's own names nothing
            problem = "names no kernel"
        yield judged(Check.BOOT_CONFIG, path, problem, f"names {', '.join((*kernels, *initrds)) or 'nothing'}")
        for label in dict.fromkeys(match[1] for match in _LIVE.finditer(text)):
            problem = "" if label == volume else f"looks for a volume {label}, this is {volume}"
            yield judged(Check.BOOT_CONFIG, path, problem, f"looks for the volume {label}")


def _files(image: LiveImage) -> Iterator[Finding]:
    kernel = next((path for path in _KERNELS if image.node(path)), "")
    initrd = next((path for path in _INITRDS if image.node(path)), "")
    head = image.head(kernel) if kernel else None
    if head is None:
        yield error(Check.KERNEL, " or ".join(_KERNELS), "is missing")
    elif image.architecture is not None:
        name = image.architecture.name
        yield judged(Check.KERNEL, kernel, image.architecture.kernel_problem(head), f"a kernel for {name}")
    else:
        yield error(Check.KERNEL, kernel, "is no kernel of any architecture")
    size = node.size if initrd and (node := image.node(initrd)) else 0
    problem = "" if size else "is empty" if initrd else "is missing"
    yield judged(Check.INITRD, initrd or " or ".join(_INITRDS), problem, "is there")
    yield _rootfs(image)


def _rootfs(image: LiveImage) -> Finding:
    node = image.node(_ROOTFS)
    if node is None:
        text = "is missing, as in a minimal ISO: a kernel argument has to name it"
        return warning(Check.ROOTFS, _ROOTFS, text)
    content = image.iso.source(node)
    try:
        first = next(members(content))
        found = probe(Window(content, *first.content))
    except RehydratorError as problem:
        return error(Check.ROOTFS, _ROOTFS, str(problem))
    if first.name not in _ROOTS or found is None:
        return error(Check.ROOTFS, _ROOTFS, f"begins with {first.name}, which is no root file system")
    return judged(Check.ROOTFS, _ROOTFS, found.problem, f"has {first.name}, {found.type}")
