"""Every command that a document shows is run, as a reader would run it.

A fenced block ``sh`` is one script. The words after ``sh`` say otherwise:

- ``sh alternatives``: each line is a script of its own;
- ``sh not run: REASON``: a block that can't run in a test. It is skipped with its reason, and its commands and options
  must exist all the same.

A script runs in a new directory that has what the documents name: a store, build directories, images.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehydrator.oci.layout import LayoutWriter
from tests.support import isos
from tests.support.cli import environment, fine
from tests.support.disks import metal_disk, sibling
from tests.support.images import put_base
from tests.support.releases import ReleaseMaker

ROOT = Path(__file__).parent.parent
ELSEWHERE = ("store.md",)  # its commands are run, and judged by what they print, in tests/test_docs.py
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "HACKING.md", ROOT / "fixtures" / "README.md"),
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in ELSEWHERE),
]
NOT_RUN = "not run: "
FENCE = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = ("sh", "bash", "shell", "console")
MIB = 1 << 20


@dataclass(frozen=True)
class Script:
    """What is shown: where, its text, and why it is not run."""

    document: str
    text: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.document}: {self.text.splitlines()[0]}"


def scripts() -> Iterator[Script]:
    """Everything that is shown in shell blocks."""
    for path in DOCUMENTS:
        name = str(path.relative_to(ROOT))
        for language, info, text in FENCE.findall(path.read_text(encoding="utf-8")):
            if language not in SHELLS:
                continue
            assert language == "sh", f"{name} has a block {language}; write sh"
            if info == "alternatives":
                yield from (Script(name, line) for line in text.splitlines())
            else:
                assert not info or info.removeprefix(NOT_RUN) not in ("", info), f"{name}: unknown words {info!r}"
                yield Script(name, text, info.removeprefix(NOT_RUN))


SCRIPTS = list(scripts())


@pytest.fixture(scope="module")
def made(
    need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory, qcow2_bytes: Callable[[bytes], bytes]
) -> Path:
    """A directory with builds of two architectures, of 4 MiB disks whose compression is quickly proven, and a store."""
    root = tmp_path_factory.mktemp("shown")
    metal = metal_disk()
    live, _ = isos.with_minimal(need, "aarch64", root / "live")
    for arch in ("x86_64", "s390x"):
        maker = ReleaseMaker(root / arch / "build", arch)
        maker.add("metal", "raw.xz", metal)
        maker.add("qemu", "qcow2.xz", qcow2_bytes(sibling(metal, 2, 6 * MIB)))
        maker.add("openstack", "qcow2.xz", qcow2_bytes(sibling(metal, 3, 6 * MIB)))
        maker.add("live-iso", "iso", live.read_bytes())
        for key, suffix in (("live-kernel", ""), ("live-initramfs", "img"), ("live-rootfs", "img")):
            maker.add(key, suffix, key.encode() * 999)
        for image in [*maker.directory.iterdir()]:
            image.with_name(image.name + ".sig").write_bytes(b"signature of " + image.name.encode())
        maker.finish()
        (maker.root / "builds" / "latest").symlink_to(maker.release)
        write_stream(maker)
    fine("build", "dehydrate", root / "x86_64" / "build", root / "store", "--progress", "none")
    return root


def write_stream(maker: ReleaseMaker) -> None:
    """Write stream metadata of the disks beside them."""
    artifacts = {}
    for key in ("metal", "qemu", "openstack"):
        image = maker.images[key]
        disk = {name: image[name] for name in ("sha256", "uncompressed-sha256")}
        disk["location"] = f"https://example.com/{image['path']}"
        suffix = image["path"].partition(f".{maker.arch}.")[2]
        artifacts[key] = {"release": maker.release, "formats": {suffix: {"disk": disk}}}
    stream = {"stream": "stable", "metadata": {}, "architectures": {maker.arch: {"artifacts": artifacts}}}
    (maker.directory / "stream.json").write_text(json.dumps(stream))


@pytest.fixture(scope="module")
def images(real_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the committed release, rehydrated."""
    directory = tmp_path_factory.mktemp("images")
    fine("rehydrate", directory, "--all", "--store", real_store, "--progress", "none")
    return directory


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image of nothing, as ``runtime`` and ``latest``."""
    root = tmp_path_factory.mktemp("base") / "runtime"
    with LayoutWriter(root) as writer:
        writer.tag(put_base(writer), "runtime")
        writer.tag(put_base(writer), "latest")
    return root


@pytest.fixture(scope="module")
def image(base: Path, real_store: Path) -> Path:
    """A layout with the store of the committed release as an image."""
    root = base.with_name("image")
    fine("build", "image", real_store, f"oci:{root}", "--base", f"oci:{base}")
    return root


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes the directory in which a script is run."""
    return lambda text: Place(request, tmp_path).prepare(text)


class Place:
    """A directory with what scripts name; the store is the one that has what a script asks for."""

    def __init__(self, request: pytest.FixtureRequest, directory: Path) -> None:
        self._get: Callable[[str], Path] = request.getfixturevalue
        self._directory = directory

    def prepare(self, text: str) -> Path:
        """Make the directory, with copies of what the text names, itself or in a document: it may write to them."""
        unnamed = re.search(r"\*|stream\.json", text) is not None
        for name, original in self._names(text, self._get("release_dir")).items():
            if name in text or unnamed:
                copy = self._directory / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "--recursive", "--no-target-directory", original, copy], check=True)
        self._programs()
        return self._directory

    def _names(self, text: str, release: Path) -> dict[str, Path]:
        found = {"scripts": ROOT / "scripts", "fixtures": ROOT / "fixtures"}
        made = self._get("made")
        if "build dehydrate" in text:
            found |= {f"path/to/{arch}/build": made / arch / "build" for arch in ("x86_64", "s390x")}
            found["path/to/build"] = made / "x86_64" / "build"
            (metadata,) = made.glob("x86_64/build/builds/4*/x86_64")
            found |= {path.name: path for path in metadata.iterdir()}
        elif re.search("--compressed|--(minimal-)?iso|--pxe", text):
            found["store"] = made / "store"
        else:
            found["store"] = self._get("real_store")
        if "build attest" in text:
            found["image"] = self._get("image")
        if "oci:runtime" in text:
            found["runtime"] = self._get("base")
        (build,) = (release / "builds").glob("4*/x86_64")
        for image in build.glob("*.xz"):
            found |= self._spelled(image)
        for image in self._get("images").iterdir():
            found |= self._spelled(image)
        return found

    @staticmethod
    def _spelled(image: Path) -> dict[str, Path]:
        """The names by which documents call an image."""
        key, _, suffix = image.name.rpartition("-")[2].partition(".x86_64.")
        release = f"fedora-coreos-44-{key}.x86_64.{suffix}"
        names = (f"{key}.{suffix}", f"{key}.x86_64.{suffix}", release, f"downloads/{release}", image.name)
        return dict.fromkeys([*names, *(["disk.raw"] if suffix == "raw" else [])], image)

    def _programs(self) -> None:
        program = self._directory / "bin" / "rehydrator"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m rehydrator "$@"\n')
        program.chmod(0o755)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_shown_commands_run(script: Script, place: Callable[[str], Path], need: Callable[..., None]) -> None:
    if script.reason:
        pytest.skip(script.reason)
    need(*(name for name in ("jq", "zstd", "skopeo") if re.search(rf"\b{name}\b", script.text)))
    directory = place(script.text)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.text],
        cwd=directory, capture_output=True, check=False, timeout=300,
        env=environment({"PATH": f"{directory}/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}),
    )  # fmt: skip
    assert done.returncode in ends(script.text), (done.returncode, done.stderr.decode())


def test_reasons_name_what_is_there() -> None:
    """What is not run here is run elsewhere."""
    named = {name for script in SCRIPTS for name in re.findall(r"(?:tests|scripts)/[\w.-]*\w", script.reason)}
    assert len(named) > 5
    assert {name for name in named if not (ROOT / name).exists()} == set()


def ends(text: str) -> tuple[int, ...]:
    """How a script may end: comparing two different images ends with 1."""
    return (0, 1) if text.startswith("rehydrator explain ") else (0,)


def shown_scripts() -> list[tuple[str, str]]:
    """Scripts of the repository that are shown, each with its options."""
    found = set()
    for script in SCRIPTS:
        for line in script.text.splitlines():
            if called := re.match(r"scripts/[\w-]+", line):
                found |= {(called[0], option) for option in ["", *re.findall(r" (--[\w-]+)", line)]}
    return sorted(found)


@pytest.mark.parametrize("name", sorted({name for name, _ in shown_scripts()}))
def test_shown_scripts_have_their_options(name: str) -> None:
    """Also where they are not run."""
    program = [str(ROOT / name)]
    if (ROOT / name).read_text(encoding="utf-8").startswith("#!/usr/bin/env python3"):
        program.insert(0, sys.executable)
    elif name == "scripts/test":  # passes everything to pytest
        return
    told = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert [option for script, option in shown_scripts() if script == name and option not in told] == []
