"""Where disks are made: on loop devices of this machine, by root, or elsewhere."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import disk, live, secex
from .architectures import Architecture
from .content import PROFILES, Content, Packages, build_content
from .disk import Image
from .metadata import Artifact
from .ostree import Deployment, deploy
from .platforms import Parent, Platform, Selection, Size
from .rawimage import Kit, build_own_disk, build_raw_image, make_sibling, run_on_disk, run_zipl
from .tools import BuildError
from .wrap import Target

WORKERS = 2


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    out: Path
    content: str
    build_id: str
    cloud_size: int
    ibmcloud_size: int
    era: str
    live_options: tuple[str, ...]  # mksquashfs's
    selection: Selection
    base_url: str
    xz_level: int
    keep_work: bool
    sign: bool

    @property
    def architecture(self) -> Architecture:
        """The architecture that is built for."""
        return self.selection.architecture

    def size_of(self, size: Size) -> int | None:
        """Return the size of a disk in bytes, None for one that follows from the content."""
        return {Size.METAL: None, Size.CLOUD: self.cloud_size, Size.IBMCLOUD: self.ibmcloud_size}[size]


class Workshop(Protocol):
    """Makes the disks of a release, and the live artifacts."""

    def prepare(self) -> str:
        """Make what all disks need and return the ostree commit."""
        ...

    def disk(self, platform: Platform) -> Image:
        """Return a platform's disk; may be called from several threads."""
        ...

    def shared(self, platform: Platform) -> bool:
        """Tell whether others are made from a platform's disk, so that it must stay."""
        ...

    def live(self, target: Target) -> list[Artifact]:
        """Make the live artifacts in the directory of `target`."""
        ...


class HostWorkshop:
    """Makes disks on loop devices of this machine; needs root."""

    def __init__(self, options: Options, kit: Kit, fetched: Packages) -> None:
        self._options = options
        self._kit = kit
        self._fetched = fetched
        self._made: dict[str, Image] = {}
        self._lock = threading.Lock()

    def prepare(self) -> str:
        """Make the content, the deployment, the raw images, and the disks that others are made from."""
        kit, options = self._kit, self._options
        with kit.steps.step(f"content {options.content}"):
            profile = PROFILES[options.content]
            self._content: Content = build_content(
                kit.runner, options.architecture, profile, self._fetched, options.build_id, kit.work
            )
        with kit.steps.step("ostree commit and deploy"):
            self._deployment: Deployment = deploy(
                kit.runner, self._content.root, options.architecture.name, options.build_id, kit.work
            )
        self._check_sizes()
        self._parents = self._raw_images()
        shared = [item for item in options.selection.needed if item.name in ("metal", "metal4k", "qemu")]
        with ThreadPoolExecutor(WORKERS) as pool:
            for platform, image in zip(shared, pool.map(self._first_generation, shared), strict=True):
                self._made[platform.name] = image
        return self._deployment.commit

    def disk(self, platform: Platform) -> Image:
        """Return a platform's disk."""
        with self._lock:
            made = self._made.get(platform.name)
        if made is None:
            made = (self._second_generation if platform.parent is Parent.QEMU else self._first_generation)(platform)
        return made

    def _first_generation(self, platform: Platform) -> Image:
        own = {Parent.OWN: self._own, Parent.SECEX: self._secex}
        return own.get(platform.parent, self._sibling)(platform)

    def shared(self, platform: Platform) -> bool:
        """Tell whether others are made from a platform's disk, so that it must stay."""
        return platform.name in self._made

    def live(self, target: Target) -> list[Artifact]:
        """Make the live artifacts."""
        metal, metal4k = self._made["metal"], self._made["metal4k"]
        source = live.LiveInput(self._content, self._deployment, metal, metal4k, self._options.live_options)
        return live.build_live(self._kit, target, source)

    def _check_sizes(self) -> None:
        content = self._deployment.content_bytes
        for platform in self._options.selection.needed:
            made_for = platform.parent is Parent.SECEX
            needed = secex.disk_size(content) if made_for else disk.metal_size(self._options.architecture, content)
            wanted = self._options.size_of(platform.size)
            if wanted is not None and wanted < needed:
                least = -(-needed // disk.MIB)
                raise BuildError(
                    f"--{platform.size.value}-size is too small: with this content {platform.name} needs {least}M"
                )

    def _raw_images(self) -> dict[Parent, Image]:
        kit = self._kit
        needed = {platform.parent for platform in self._options.selection.needed}
        images = {
            Parent.RAW: Image(kit.work / "raw-image.raw"),
            Parent.RAW_4K: Image(kit.work / "raw-4k-image.raw", 4096),
        }
        parents = {parent: image for parent, image in images.items() if parent in needed}
        for parent, image in parents.items():
            with kit.steps.step(parent.value):
                build_raw_image(kit, self._options.architecture, self._content, self._deployment, image)
        return parents

    def _sibling(self, platform: Platform) -> Image:
        with self._kit.steps.step(f"{platform.name}: platform edit"):
            parent, size = self._parents[platform.parent], self._options.size_of(platform.size)
            return make_sibling(self._kit, parent, platform.name, platform.platform_id, size, zipl=self._content.zipl)

    def _own(self, platform: Platform) -> Image:
        with self._kit.steps.step(f"{platform.name}: own disk"):
            image = Image(self._kit.work / f"{platform.name}.raw", platform.sector_size)
            architecture, size = self._options.architecture, self._options.size_of(platform.size)
            arguments = (*architecture.disk_arguments, f"ignition.platform.id={platform.platform_id}")
            build_own_disk(self._kit, architecture, self._content, self._deployment, image, size, arguments)
        return image

    def _secex(self, platform: Platform) -> Image:
        with self._kit.steps.step(f"{platform.name}: own disk"):
            image = Image(self._kit.work / f"{platform.name}.raw")
            size = self._options.size_of(platform.size)
            secex.make_secex(self._kit, self._content, self._deployment, image, platform.platform_id, size)
        return image

    def _second_generation(self, platform: Platform) -> Image:
        """Edit a copy of the finished qemu disk; the real tool does it on the qcow2, with the same disk bytes."""
        with self._kit.steps.step(f"{platform.name}: second edit of qemu"):
            image = Image(self._kit.work / f"{platform.name}.raw")
            disk.copy_sparse(self._kit.runner, self._made["qemu"].path, image.path)
            name, zipl = platform.platform_id, self._content.zipl
            if zipl:
                run_zipl(self._kit, image, zipl, "change-platform-zipl", platform=name, sector=image.sector_size)
            else:
                run_on_disk(self._kit, image, "change-platform", platform=name)
            wanted = self._options.size_of(platform.size)
            if wanted is not None and wanted > image.path.stat().st_size:
                os.truncate(image.path, wanted)
        return image
