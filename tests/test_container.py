"""The container: the Containerfile's ``runtime``, built by buildah, a store put on top, and files given back from it.

The base is made of this system's packages, which is quick. ``scripts/test-container`` builds the image from a real
base, twice, and names it here as ``$REHYDRATOR_TEST_RUNTIME``. The target ``builder`` is not built here;
``$REHYDRATOR_TEST_BUILDER`` names it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rehydrator.codecs import wheels
from tests.support import host_base, isos, stores
from tests.support.cli import fine
from tests.support.compressible import compressible
from tests.support.disks import metal_disk
from tests.support.releases import ReleaseMaker, sha256

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

    def run(
        self, *arguments: str, volume: Path | None = None, place: str = "/out"
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the entry point through buildah, without a network; ``volume`` is mounted at ``place``."""
        options = ["--isolation", "chroot", "--user", f"{USER}:{USER}", "--cap-drop", "all"]
        options += ["--volume", f"{volume}:{place}"] if volume else []
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


@contextmanager
def working(base: str, store: Path, work: Path) -> Iterator[Container]:
    """Put a store on an image and give a container of the whole."""
    fine("build", "image", store, f"oci:{work / 'image'}", "--base", base)
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
def container(runtime: Path, real_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container of the image with the store of the committed release."""
    with working(f"oci:{runtime}:runtime", real_store, tmp_path_factory.mktemp("container")) as made:
        yield made


@pytest.fixture(scope="module")
def builder(
    need: Callable[..., None], real_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """The same with the target ``builder``."""
    need("buildah", "unshare", root=True)
    layout = os.environ.get("REHYDRATOR_TEST_BUILDER")
    if not layout:
        pytest.skip("takes minutes to build; $REHYDRATOR_TEST_BUILDER names one")
    with working(f"oci:{layout}:builder", real_store, tmp_path_factory.mktemp("builder")) as made:
        yield made


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
    assert labels["org.opencontainers.image.title"] == "CoreOS disk images"
    stream = json.loads((real_store / "stream.json").read_text())
    assert labels["org.opencontainers.image.created"] == stream["metadata"]["last-modified"]
    assert labels["io.rehydrator.stream"] == stream["stream"]
    if (ROOT / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])


def test_the_base_is_that_of_the_argument(runtime: Path) -> None:
    """Its layers are the first of the image, with what the program adds behind them."""
    base = runtime.parent / "base"
    if not base.exists():
        pytest.skip("the base is elsewhere")
    ours, bases = diff_ids(runtime, "runtime"), diff_ids(base, "latest")
    assert ours[: len(bases)] == bases
    assert len(ours) > len(bases)


def diff_ids(layout: Path, tag: str) -> list[str]:
    """The digests of an image's layers, not compressed, from the base on."""
    told = subprocess.check_output(["skopeo", "inspect", "--config", f"oci:{layout}:{tag}"])
    found = json.loads(told)["rootfs"]["diff_ids"]
    assert isinstance(found, list)
    return found


def test_layers_are_the_store(container: Container, real_store: Path) -> None:
    """One for the canonical disk, one for all else, readable by anybody."""
    place = container.root / "usr/share/rehydrator/store"
    assert {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()} == {
        path.relative_to(real_store): path.read_bytes() for path in real_store.rglob("*") if path.is_file()
    }


def test_times_and_owners_are_fixed(runtime: Path) -> None:
    """In what the program adds to the base."""
    manifest = json.loads(subprocess.check_output(["skopeo", "inspect", "--raw", f"oci:{runtime}:runtime"]))
    seen = 0
    for item in manifest["layers"][1:]:
        with tarfile.open(runtime / "blobs" / item["digest"].replace(":", "/")) as archive:
            for member in archive:
                seen += 1
                assert (member.mtime, member.uname, member.gname) == (0, "", ""), member.name
    assert seen > 1000


def test_it_is_small_and_has_no_virtual_machine(container: Container, runtime: Path) -> None:
    """Its user is none of the system's."""
    assert container.config["User"] == "65532:65532"
    for pattern in ("usr/bin/qemu-*", "usr/bin/gpg", "opt/**/guestfs.py", "usr/lib/python3/dist-packages/guestfs.py"):
        assert list(container.root.glob(pattern)) == []
    size = sum(path.stat().st_size for path in (runtime / "blobs/sha256").iterdir())
    assert size <= 90_000_000


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


def test_live_images_by_the_pinned_codecs(
    container: Container,
    tmp_path: Path,
    need: Callable[..., None],
    fetched_codecs: Callable[[], Path],
) -> None:
    """A live system compressed by a version of libzstd that Python does not have installed in the image."""
    need("mksquashfs", "genisoimage", "isohybrid", isos.ISOLINUX)
    tree = tmp_path / "tree"
    tree.mkdir()
    content = compressible(7, 1_200_000, holes=0)
    (tree / "file").write_bytes(content)
    rootfs, image = tmp_path / "rootfs", tmp_path / "live.iso"
    words = ("-comp", "zstd", "-quiet", "-no-progress", "-noappend")
    subprocess.run(["mksquashfs", tree, rootfs, *words], check=True, capture_output=True)
    isos.x86_64(
        isos.make_tree(tmp_path / "iso", {**isos.FILES, "images/pxeboot/rootfs.img": rootfs.read_bytes()}), image
    )
    maker = ReleaseMaker(tmp_path / "release")
    maker.add("metal", "raw.xz", metal_disk(size=2 << 20) + content + bytes(-len(content) % 4096))
    maker.add("live-rootfs", "img", rootfs.read_bytes())
    maker.add("live-iso", "iso", image.read_bytes())
    store = tmp_path / "live"
    codecs = {wheels.DIRECTORY_VARIABLE: str(fetched_codecs())}
    fine("build", "dehydrate", maker.finish(), store, "--level", "1", env=codecs)
    (record,) = stores.manifest(store, "metal.pxe.rootfs")["layers"]
    assert record["encoder"].startswith("zstd-1.5.5-")
    assert "metal.pxe.rootfs" in stores.manifest(store, "metal.iso.disk")["body"]["references"]
    done = container.run("rehydrate", "-", "--iso", "--store", "/live", volume=store, place="/live")
    assert done.returncode == 0, done.stderr
    assert sha256(done.stdout) == sha256(image.read_bytes())


def test_the_list_of_software_has_the_system(container: Container, tmp_path: Path) -> None:
    """The image's own dpkg database; the quick base has none, which is told."""
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, USER, USER)
    done = container.run("build", "attest", "/usr/share/rehydrator/store", "/out", "--system", volume=out)
    status = container.root / "var/lib/dpkg/status"
    if not status.exists():
        assert done.returncode == 3
        assert b"no database of installed packages" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    listed = {item["name"] for item in json.loads((out / "rehydrator.spdx.json").read_bytes())["packages"]}
    installed = set(re.findall("^Package: (.*)$", status.read_text(), re.MULTILINE))
    assert {"libc6", "python3"} <= installed < listed
    assert {"rehydrator", "zstandard"} <= listed


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


def test_checksums_are_those_of_the_c_library(container: Container) -> None:
    """Without libstdc++ it can't be loaded, and Python's own takes its place, a hundred times slower."""
    program = "import google_crc32c; print(google_crc32c.implementation)"
    done = container.confined("/opt/rehydrator/bin/python", "-c", program)
    assert done.stdout == b"c\n", done.stderr


def test_no_second_implementations_and_caches(container: Container) -> None:
    left = [
        path for pattern in ("opt/**/*cffi*", "var/cache/apt/*", "var/log/*") for path in container.root.glob(pattern)
    ]
    assert left == []


@pytest.mark.boot
def test_the_builder_has_a_virtual_machine(builder: Container) -> None:
    """It makes every disk again, and mounts one, by the appliance in it."""
    done = builder.run("verify", "--engine", "guestfs", "--progress", "plain")
    assert done.returncode == 0, done.stderr
    assert b"made by the driver" in done.stderr
    done = builder.run("verify", "openstack", "--mount")
    assert done.returncode == 0, done.stderr


@pytest.mark.boot
def test_the_builder_has_what_stores_are_made_with(builder: Container) -> None:
    for words in (["gpg", "--version"], ["gzip", "--version"], ["unsquashfs", "-help"], ["xz", "--version"]):
        assert builder.confined(*words).stdout, words
    assert builder.config["User"] == "65532:65532"
