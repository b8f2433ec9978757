"""The build from start to end, readable top to bottom."""

import os
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from . import metadata, sign
from .appliance import ApplianceWorkshop
from .content import PROFILES, fetch_packages
from .disk import Loops
from .metadata import Artifact, Build
from .platforms import Platform
from .rawimage import Kit
from .tools import BuildError, Runner, Steps
from .workshop import WORKERS, HostWorkshop, Options, Workshop
from .wrap import Target, wrap_disk


def build_release(options: Options, runner: Runner) -> Build:
    """Build the release into `options.out`; a failed build leaves nothing there."""
    directory = options.out / "builds" / options.build_id / options.architecture.name
    if directory.exists():
        raise BuildError(f"{directory} exists already; choose another --build-id")
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="tmp-build-", dir=options.out))
    kit = Kit(runner, Loops(runner), Steps(), work)
    try:
        with kit.steps.step("whole build"):
            return _build(options, kit, directory)
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


def _build(options: Options, kit: Kit, directory: Path) -> Build:
    fetched = fetch_packages(kit.runner, options.architecture, PROFILES[options.content])
    kind = HostWorkshop if os.geteuid() == 0 else ApplianceWorkshop
    workshop: Workshop = kind(options, kit, fetched)
    commit = workshop.prepare()
    directory.mkdir(parents=True)
    target = Target(directory, options.build_id, options.architecture, options.xz_level)
    artifacts = _artifacts(options, kit, target, workshop)
    if options.sign:
        with kit.steps.step("sign"):
            sign.sign_all(kit.runner, [directory / item.filename for item in artifacts], kit.work)
        artifacts = [replace(item, signed=True) for item in artifacts]
    build = Build(options.build_id, options.architecture.name, commit, tuple(artifacts), metadata.now())
    metadata.write_build(options.out, build, options.base_url)
    return build


def _artifacts(options: Options, kit: Kit, target: Target, workshop: Workshop) -> list[Artifact]:
    """Make the artifacts two at a time, the longest job first."""

    def wrapped(platform: Platform) -> list[Artifact]:
        image = workshop.disk(platform)
        artifact = wrap_disk(kit, target, platform, image)
        if not options.keep_work and not workshop.shared(platform):
            image.path.unlink()
        return [artifact]

    results: list[Future[list[Artifact]]] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            if options.selection.live:
                results.append(pool.submit(workshop.live, target))
            results += [pool.submit(wrapped, platform) for platform in options.selection.platforms]
            return [artifact for done in as_completed(results) for artifact in done.result()]
        except BaseException:
            # The other jobs end soon: their programs are killed.
            pool.shutdown(wait=False, cancel_futures=True)
            kit.runner.cancel()
            raise
