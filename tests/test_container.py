"""The container: the Containerfile's ``runtime``, built by buildah, a store put on top, and files given back from it.

The base is made of this system's packages, which is quick. ``scripts/test-container`` builds the image from a real
base, twice, and names it here as ``$REHYDRATOR_TEST_RUNTIME``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import host_base
from tests.support.cli import fine

ROOT = Path(__file__).parent.parent
SOURCE = "https://example.com/source"  # scripts/test-container says the same
USER = 1000
# In namespaces of its own: no network, nothing of /proc, /dev and /tmp but what is in the image, and that read-only.
CONFINED = f"""
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && root=$1 && shift
exec chroot "$root" setpriv --reuid {USER} --regid {USER} --clear-groups --bounding-set -all --inh-caps -all \\
    --no-new-privs env -i "$@"
"""


@dataclass(frozen=True)
class Container:
    """A working container of buildah, and where its root is mounted."""

    storage: tuple[str, ...]
    name: str
    root: Path
    config: dict[str, Any]

    def command(self, *arguments: str) -> list[str]:
        """The entry point of the image, as an engine calls it."""
        return [*self.config["Entrypoint"], *arguments]

    def run(self, *arguments: str, volume: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run the entry point through buildah."""
        options = ["--isolation", "chroot", "--user", f"{USER}:{USER}", "--cap-drop", "all"]
        options += ["--volume", f"{volume}:/out"] if volume else []
        return subprocess.run(
            ["unshare", "--net", *self.storage, "run", *options, self.name, "--", *self.command(*arguments)],
            capture_output=True, check=False, timeout=300,
        )  # fmt: skip

    def confined(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the image's root, with its environment, where nothing can be written but the outputs."""
        return subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", CONFINED, "sh", self.root, *self.config["Env"], *command],
            capture_output=True, check=False, timeout=300,
        )  # fmt: skip


@pytest.fixture(scope="module")
def runtime(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with the target ``runtime``."""
    need("buildah", "unshare", "setpriv", root=True)
    if built := os.environ.get("REHYDRATOR_TEST_RUNTIME"):
        return Path(built)
    need("dpkg-query")
    work = tmp_path_factory.mktemp("runtime")
    host_base.write(work / "base")
    subprocess.run(
        [ROOT / "scripts/build-container", work / "runtime", "--base", f"oci:{work / 'base'}", "--source", SOURCE],
        check=True,
        timeout=1200,
    )
    return work / "runtime"


@pytest.fixture(scope="module")
def container(runtime: Path, real_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container of the image with the store of the committed release."""
    work = tmp_path_factory.mktemp("container")
    fine("build", "image", real_store, f"oci:{work / 'image'}", "--base", f"oci:{runtime}:runtime")
    storage = ("buildah", "--root", str(work / "storage"), "--runroot", str(work / "run"))

    def told(*words: str) -> str:
        return subprocess.check_output([*storage, *words], text=True).strip()

    name = told("from", f"oci:{work / 'image'}:latest")
    try:
        config = json.loads(told("inspect", name))["OCIv1"]
        yield Container(storage, name, Path(told("mount", name)), config["config"])
    finally:
        told("umount", name)
        told("rm", name)
        subprocess.run(["umount", "--recursive", work / "storage/overlay"], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def openstack(release_dir: Path) -> str:
    """The sha256 that the release promises for openstack's disk."""
    stream = json.loads((release_dir / "stream.json").read_text())
    disk = stream["architectures"]["x86_64"]["artifacts"]["openstack"]["formats"]["qcow2.xz"]["disk"]
    assert isinstance(disk["uncompressed-sha256"], str)
    return disk["uncompressed-sha256"]


def test_labels(container: Container, real_store: Path) -> None:
    labels = container.config["Labels"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert labels["org.opencontainers.image.source"] == SOURCE
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == "44.20261122.20.0"
    assert labels["io.rehydrator.program"] == version
    assert labels["io.rehydrator.architectures"] == "x86_64"
    assert labels["io.rehydrator.seal"] == json.loads((real_store / "store.json").read_text())["seal"]
    assert "unknown" not in labels.values()


def test_the_first_word_is_the_command(container: Container, openstack: str) -> None:
    done = container.run("rehydrate", "-", "--disk", "openstack")
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).hexdigest() == openstack


def test_nothing_but_standard_output_is_written(container: Container, openstack: str) -> None:
    done = container.confined(
        "sh", "-c", "id -u; for place in / /tmp /run /var/tmp; do : >$place/x && echo $place; done"
    )
    assert done.stdout.split() == [str(USER).encode()]
    done = container.confined(*container.command("rehydrate", "-", "--disk", "openstack"))
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).hexdigest() == openstack


def test_several_files_are_a_tar_stream(container: Container, openstack: str) -> None:
    done = container.confined(*container.command("rehydrate", "-", "--disk", "openstack", "--disk", "qemu"))
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        digests = {}
        for member in archive:
            stream = archive.extractfile(member)
            assert stream
            digests[member.name.rpartition("-")[2]] = hashlib.sha256(stream.read()).hexdigest()
    assert digests["openstack.x86_64.qcow2"] == openstack
    assert len(digests) == 2


def test_files_in_a_volume(container: Container, openstack: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, USER, USER)
    done = container.run("rehydrate", "/out", "--disk", "openstack", volume=out)
    assert done.returncode == 0, done.stderr
    (file,) = out.iterdir()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == openstack


def test_errors_reach_the_user(container: Container) -> None:
    done = container.run("rehydrate", "/usr/share", "--disk", "openstack")
    assert done.returncode == 2
    assert b"Permission denied" in done.stderr
    assert b"Traceback" not in done.stderr


def test_bytecode_is_whole_and_current(container: Container) -> None:
    """A read-only container would compile again, at every start, what is stale."""
    done = container.confined(
        "/opt/rehydrator/bin/python", "-v", "-c", "import rehydrator.cli.rehydrate, rehydrator.rehydrate"
    )
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stderr.decode().splitlines() if line.startswith("# code object from ")]
    assert len(loaded) > 100
    assert [line for line in loaded if not line.endswith(".pyc'")] == []


def test_no_second_implementations_and_caches(container: Container) -> None:
    left = [
        path for pattern in ("opt/**/*cffi*", "var/cache/apt/*", "var/log/*") for path in container.root.glob(pattern)
    ]
    assert left == []
