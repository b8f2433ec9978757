"""The build from start to end, readable top to bottom."""

import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from . import disk, live, metadata, sign
from .content import PROFILES, Content, build_content
from .disk import Loops
from .metadata import Artifact, Build
from .ostree import Deployment, deploy
from .platforms import Parent, Platform, Selection, Size
from .rawimage import Kit, RawImage, build_raw_image, make_sibling, run_on_disk
from .tools import BuildError, Runner, Steps
from .wrap import Target, wrap_disk

_WORKERS = 2


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    out: Path
    arch: str
    content: str
    build_id: str
    cloud_size: int
    ibmcloud_size: int
    selection: Selection
    base_url: str
    xz_level: int
    keep_work: bool
    sign: bool


def build_release(options: Options, runner: Runner) -> Build:
    """Build the release into `options.out`; a failed build leaves nothing there."""
    directory = options.out / "builds" / options.build_id / options.arch
    if directory.exists():
        raise BuildError(f"{directory} exists already; choose another --build-id")
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="tmp-build-", dir=options.out))
    kit = Kit(runner, Loops(runner), Steps(), work)
    try:
        with kit.steps.step("whole build"):
            return _Builder(options, kit, directory).build()
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):  # not empty: other builds or architectures are there
            directory.parent.rmdir()
            directory.parent.parent.rmdir()
        raise
    finally:
        if options.keep_work:
            print(f"work files are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


class _Builder:
    def __init__(self, options: Options, kit: Kit, directory: Path) -> None:
        self._options = options
        self._kit = kit
        self._target = Target(directory, options.build_id, options.arch, options.xz_level)
        self._sizes = {Size.METAL: None, Size.CLOUD: options.cloud_size, Size.IBMCLOUD: options.ibmcloud_size}

    def build(self) -> Build:
        kit, options = self._kit, self._options
        with kit.steps.step(f"content {options.content}"):
            content = build_content(kit.runner, PROFILES[options.content], options.build_id, kit.work)
        with kit.steps.step("ostree commit and deploy"):
            deployment = deploy(kit.runner, content.root, options.build_id, kit.work)
        self._check_sizes(disk.metal_size(deployment.content_bytes))
        parents = self._raw_images(content, deployment)
        self._target.directory.mkdir(parents=True)
        artifacts = self._artifacts(content, deployment, parents)
        if options.sign:
            with kit.steps.step("sign"):
                sign.sign_all(kit.runner, [self._target.directory / item.filename for item in artifacts], kit.work)
            artifacts = [replace(item, signed=True) for item in artifacts]
        build = Build(options.build_id, options.arch, deployment.commit, tuple(artifacts), metadata.now())
        metadata.write_build(options.out, build, options.base_url)
        return build

    def _check_sizes(self, metal_size: int) -> None:
        for size in {platform.size for platform in self._options.selection.needed}:
            wanted = self._sizes[size]
            if wanted is not None and wanted < metal_size:
                least = -(-metal_size // disk.MIB)
                raise BuildError(f"--{size.value}-size is too small: with this content a disk needs {least}M")

    def _raw_images(self, content: Content, deployment: Deployment) -> dict[Parent, RawImage]:
        kit = self._kit
        parents = {Parent.RAW: RawImage(kit.work / "raw-image.raw")}
        if any(platform.parent is Parent.RAW_4K for platform in self._options.selection.needed):
            parents[Parent.RAW_4K] = RawImage(kit.work / "raw-4k-image.raw", 4096)
        for parent, image in parents.items():
            with kit.steps.step(parent.value):
                build_raw_image(kit, content, deployment, image)
        return parents

    def _artifacts(
        self, content: Content, deployment: Deployment, parents: dict[Parent, RawImage]
    ) -> list[Artifact]:
        """Make the artifacts two at a time; those made from other artifacts come last."""
        selection = self._options.selection
        disks: dict[str, RawImage] = {}
        results: list[Future[list[Artifact]]] = []
        with ThreadPoolExecutor(_WORKERS) as pool:
            first: dict[str, Future[RawImage]] = {}
            try:
                shared = [item for item in selection.needed if item.name in ("metal", "metal4k", "qemu")]
                for platform in shared:
                    first[platform.name] = pool.submit(self._sibling, platform, parents)
                for name, future in first.items():
                    disks[name] = future.result()
                # The longest job first.
                if selection.live:
                    source = live.LiveInput(content, deployment, disks["metal"], disks["metal4k"])
                    results.append(pool.submit(live.build_live, self._kit, self._target, source))
                for platform in selection.platforms:
                    results.append(pool.submit(self._disk_artifact, platform, parents, disks))
                return [artifact for done in as_completed(results) for artifact in done.result()]
            except BaseException:
                # The other jobs end soon: their programs are killed.
                pool.shutdown(wait=False, cancel_futures=True)
                self._kit.runner.cancel()
                raise

    def _sibling(self, platform: Platform, parents: dict[Parent, RawImage]) -> RawImage:
        with self._kit.steps.step(f"{platform.name}: platform edit"):
            size = self._sizes[platform.size]
            return make_sibling(self._kit, parents[platform.parent], platform.name, platform.platform_id, size)

    def _disk_artifact(
        self, platform: Platform, parents: dict[Parent, RawImage], disks: dict[str, RawImage]
    ) -> list[Artifact]:
        if platform.name in disks:
            return [wrap_disk(self._kit, self._target, platform, disks[platform.name])]
        if platform.parent is Parent.QEMU:
            image = self._second_generation(platform, disks["qemu"])
        else:
            image = self._sibling(platform, parents)
        artifact = wrap_disk(self._kit, self._target, platform, image)
        if not self._options.keep_work:
            image.path.unlink()
        return [artifact]

    def _second_generation(self, platform: Platform, qemu: RawImage) -> RawImage:
        """Edit a copy of the finished qemu disk; the real tool does it on the qcow2, with the same disk bytes."""
        with self._kit.steps.step(f"{platform.name}: second edit of qemu"):
            image = RawImage(self._kit.work / f"{platform.name}.raw")
            self._kit.runner.run("cp", "--sparse=auto", "--reflink=auto", qemu.path, image.path)
            run_on_disk(self._kit, image, "change-platform", platform=platform.platform_id)
        return image
