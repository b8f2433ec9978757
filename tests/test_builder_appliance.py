"""The release builder without root: what goes into the appliance, how it is started, and one release built there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import fine

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from release_builder import appliance, guestfish, inside  # noqa: E402
from release_builder.content import Packages  # noqa: E402
from release_builder.metadata import Artifact, Digest  # noqa: E402
from release_builder.tools import BuildError, Runner  # noqa: E402

NOBODY = 65534
OTHERS = ("zipl-*", "apt-*", "squashfs-tools-*", "erofs-utils-*")  # of the cache: what other tests unpack


def fake(directory: Path, script: str) -> None:
    """Put a stand-in for guestfish into ``directory``."""
    program = directory / guestfish.PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("number", "label"),
    [(0, "diska"), (1, "diskb"), (25, "diskz"), (26, "diskaa"), (51, "diskaz"), (52, "diskba"), (701, "diskzz")],
)
def test_names_of_drives(number: int, label: str) -> None:
    assert inside.device(number) == Path("/dev/disk/guestfs") / label


def test_an_artifact_comes_out_as_it_went_in() -> None:
    artifact = Artifact("live-iso", "metal", "iso", "disk", "x.iso", Digest("00" * 32, 5))
    assert appliance._artifact(json.loads(json.dumps(appliance.as_json(artifact)))) == artifact


def test_holes_are_not_written(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "device"
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
        for at in (0, 20 << 20, (64 << 20) - 5):
            stream.seek(at)
            stream.write(b"data!")
    with target.open("wb") as stream:
        stream.truncate(80 << 20)
    inside.copy_to_device(image, target)
    assert target.read_bytes()[: 64 << 20] == image.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20


def test_the_root_has_programs_that_run(tmp_path: Path, need: Callable[..., None]) -> None:
    need("tar", "chroot", root=True)
    package = tmp_path / "some_1_all.deb"
    package.write_bytes(b"a package")
    archive = tmp_path / "root.tar"
    appliance.pack_root(Runner(), tmp_path / "top", archive, ["sh", "ls"], Packages({"some": package}, {}))
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(archive) as tar:
        assert {member.uid for member in tar} == {0}
    subprocess.run(["tar", "-xf", archive, "-C", root], check=True)
    python = Path(sys.executable).resolve()
    program = "import json, hashlib, lzma, sys; sys.path.insert(0, '/build/scripts'); import release_builder.inside"
    subprocess.run(["chroot", root, python, "-B", "-c", program], check=True, env={"PATH": "/usr/sbin:/usr/bin"})
    assert (
        b"some_1_all.deb"
        in subprocess.run(["chroot", root, "/bin/ls", "/build/packages"], check=True, capture_output=True).stdout
    )


def test_kvm_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "child"
    fake(tmp_path, f"sleep 600 & echo $! >{mark}; wait")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("LIBGUESTFS_BACKEND_SETTINGS", raising=False)
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(guestfish, "_KVM_DEADLINE", 0.5)
    assert guestfish.working_backend(Runner(), {}) == "force_tcg"
    child = int(mark.read_text())
    for _ in range(1000):  # the kernel ends a killed process a little later
        if _ended(child):
            return
        time.sleep(0.01)
    pytest.fail("the machine was left running")


def _ended(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("code", "settings"), [(0, ""), (1, "force_tcg")])
def test_kvm_that_answers_is_believed(
    code: int, settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, f"cat >/dev/null; exit {code}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("LIBGUESTFS_BACKEND_SETTINGS", raising=False)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert guestfish.working_backend(Runner(), {}) == settings


def test_what_the_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg:x")
    assert guestfish.working_backend(Runner(), {}) == "force_tcg:x"


@pytest.mark.parametrize(("said", "expected"), [("supermin: no kernel", "Debian: apt-get"), ("disk full", "disk full")])
def test_failures_say_what_to_do(said: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, f"cat >/dev/null; echo '{said}' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(BuildError, match=expected):
        guestfish.Machine(Runner(), {}).run("run\n")


@pytest.mark.builder
def test_a_release_built_without_root(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> None:
    need("setpriv", *(tool.program for tool in guestfish.TOOLS), "qemu-img", "xz", "apt-get", root=True)
    home = Path(tempfile.mkdtemp(prefix="builder-", dir="/var/tmp"))  # where others may look, unlike tmp_path
    cache = Path.home() / ".cache/rehydrator-build"
    try:
        shutil.copytree(SCRIPTS, home / "scripts")
        if cache.exists():
            shutil.copytree(cache, home / "cache", symlinks=True, ignore=shutil.ignore_patterns(*OTHERS))
        (home / "cache").mkdir(exist_ok=True)
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
        if python is None:
            pytest.skip("needs a python3 that everybody may run")
        subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python,
             home / "scripts/build-release", home / "out", "--content", "tiny", "--cloud-size", "1G",
             "--platforms", "metal,qemu"],
            check=True, env={"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home),
                             "REHYDRATOR_BUILD_CACHE": str(home / "cache")},
        )  # fmt: skip
        store = tmp_path_factory.mktemp("appliance") / "store"
        fine("build", "dehydrate", home / "out", store, "--progress", "none")
        told = fine("info", "qemu", "--store", store).text
        assert "literal bytes 0" in told
        assert "+ignition.platform.id=qemu" in told
    finally:
        shutil.rmtree(home, ignore_errors=True)
