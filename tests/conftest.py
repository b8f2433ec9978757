"""Fixtures of all tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rehydrator.engines.guestfs.machine import Machine
from release_builder import guestfish
from release_builder import zipl as roots
from release_builder.tools import Runner
from tests.support import packages
from tests.support.cli import fine
from tests.support.disks import MIB, metal_disk, sibling
from tests.support.releases import ReleaseMaker
from tests.support.s390x import find_zipl
from tests.support.tiny_disk import store_of, tiny_disk

RELEASE = Path(__file__).parent.parent / "fixtures" / "release"

# A slow machine is no failure, and function-scoped fixtures are used read-only.
settings.register_profile(
    "suite",
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> None:
    """Undo what ``nohup`` and the background jobs of a shell pass on: signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip the test, naming the package, where one of the named programs is missing; ``root=True`` asks for root."""

    def check(*programs: str, root: bool = False) -> None:
        missing = [name for name in programs if not packages.present(name)]
        if missing:
            pytest.skip("missing: " + "; ".join(map(packages.described, missing)))
        if root and os.geteuid() != 0:
            pytest.skip("needs root")

    return check


@pytest.fixture(scope="session")
def release_dir() -> Path:
    """The committed real release; read-only."""
    return RELEASE


@pytest.fixture(scope="session")
def s390x_release(release_dir: Path) -> Path:
    """The committed real release of s390x; read-only."""
    return release_dir.with_name("s390x")


@pytest.fixture(scope="session")
def real_store(release_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the committed real release; read-only."""
    store = tmp_path_factory.mktemp("real") / "store"
    fine("build", "dehydrate", release_dir, store, "--no-compressed", "--progress", "none")
    return store


@pytest.fixture(scope="session")
def both_store(release_dir: Path, s390x_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two build directories, x86_64 and s390x; read-only."""
    store = tmp_path_factory.mktemp("both") / "store"
    fine("build", "dehydrate", release_dir, s390x_release, store, "--no-compressed", "--progress", "none")
    return store


@pytest.fixture(scope="session")
def tiny_bytes(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A disk that is tiny and, but for its boot partition, none of CoreOS."""
    need("mkfs.ext4")
    return tiny_disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="session")
def tiny_store(tiny_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of nothing but metal's disk, which is the tiny one; read-only."""
    return store_of(tiny_bytes, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def qcow2_bytes(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], bytes]:
    """Return a function that wraps a disk into qcow2 by the real qemu-img."""
    need("qemu-img")
    directory = tmp_path_factory.mktemp("convert")

    def convert(disk: bytes) -> bytes:
        raw, image = directory / "disk.raw", directory / "disk.qcow2"
        raw.write_bytes(disk)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], check=True)
        return image.read_bytes()

    return convert


@pytest.fixture(scope="session")
def real_zipl(need: Callable[..., None]) -> Callable[[str], roots.Zipl]:
    """Return a function that gives the zipl of a Debian suite."""
    need(roots.EMULATOR, "apt-get", "losetup", root=True)
    return find_zipl


@pytest.fixture(scope="session")
def appliance_environment(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which a real libguestfs appliance starts; whether KVM works is found out by rehydrator."""
    need(*(tool.program for tool in guestfish.TOOLS), "apt-get")
    pytest.importorskip("guestfs", reason="the Python bindings of libguestfs, in package python3-guestfs")
    return guestfish.kernel_environment(Runner(), tmp_path_factory.mktemp("appliance") / "kernel")


@pytest.fixture(scope="session")
def machine(appliance_environment: dict[str, str]) -> Iterator[Machine]:
    """A real libguestfs machine with a drive of 2 GiB, one for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in appliance_environment.items():
            patch.setenv(name, value)
        running = Machine(2 << 30, print)
        running.__enter__()
    try:
        yield running
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def fetched_codecs() -> Callable[[], Path]:
    """Return a function that gives a directory with the wheels of all encoders, or skips where pip can't get them."""

    def fetch() -> Path:
        directory = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rehydrator-tests" / "codecs"
        command = [Path(__file__).parent.parent / "scripts" / "fetch-codecs", directory]
        environment = {**os.environ, "REHYDRATOR_PYTHON": sys.executable}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode:
            pytest.skip(f"scripts/fetch-codecs: {done.stderr.strip()[-200:]}")
        return directory

    return fetch


@pytest.fixture
def small_release(_small_maker: ReleaseMaker, tmp_path: Path) -> ReleaseMaker:
    """A synthetic release of 4 MiB disks, this test's own: metal, qemu, aws and one opaque artifact."""
    return _small_maker.copy(tmp_path / "release")


def make_small_release(root: Path, qcow2_bytes: Callable[[bytes], bytes]) -> ReleaseMaker:
    """Make the release of :func:`small_release`."""
    metal = metal_disk()
    maker = ReleaseMaker(root)
    maker.add("metal", "raw.xz", metal)
    maker.add("qemu", "qcow2.xz", qcow2_bytes(sibling(metal, 2, 6 * MIB)))
    maker.add("aws", "raw.gz", sibling(metal, 3))
    maker.add("vmware", "ova", bytes(range(256)) * 64)
    maker.finish()
    return maker


@pytest.fixture(scope="session")
def _small_maker(tmp_path_factory: pytest.TempPathFactory, qcow2_bytes: Callable[[bytes], bytes]) -> ReleaseMaker:
    return make_small_release(tmp_path_factory.mktemp("small") / "release", qcow2_bytes)


@pytest.fixture(scope="session")
def _small_store(_small_maker: ReleaseMaker) -> Path:
    store = _small_maker.root.parent / "store"
    fine("build", "dehydrate", _small_maker.root, store, "--progress", "none")
    return store


@pytest.fixture
def small_store(_small_store: Path, tmp_path: Path) -> Path:
    """A store of the small release, this test's own."""
    store = tmp_path / "store"
    shutil.copytree(_small_store, store)
    return store


@pytest.fixture(scope="session")
def certificate(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key in one file, which also is what has to be trusted."""
    need("openssl")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {path} -out {path}.crt -days 2 -subj /CN=test "
        "-addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    with path.open("a") as stream:
        stream.write(Path(f"{path}.crt").read_text())
    return path
