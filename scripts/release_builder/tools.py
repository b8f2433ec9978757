"""Host programs: which ones are needed, how they are run, and how long they took."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


class BuildError(Exception):
    """Something that the user can read and act on; the message is complete."""


class CancelledBuildError(BuildError):
    """The build was told to stop."""


@dataclass(frozen=True)
class Tool:
    """A host program and the packages that have it (the Fedora names are untested)."""

    program: str
    debian: str
    fedora: str


BASE_TOOLS = (
    Tool("apt-get", "apt", "apt"),
    Tool("chattr", "e2fsprogs", "e2fsprogs"),
    Tool("cpio", "cpio", "cpio"),
    Tool("dpkg-deb", "dpkg", "dpkg"),
    Tool("gzip", "gzip", "gzip"),
    Tool("losetup", "mount", "util-linux"),
    Tool("mcopy", "mtools", "mtools"),
    Tool("mkfs.ext4", "e2fsprogs", "e2fsprogs"),
    Tool("mkfs.fat", "dosfstools", "dosfstools"),
    Tool("mkfs.xfs", "xfsprogs", "xfsprogs"),
    Tool("mount", "mount", "util-linux"),
    Tool("ostree", "ostree", "ostree"),
    Tool("qemu-img", "qemu-utils", "qemu-img"),
    Tool("sfdisk", "fdisk", "util-linux"),
    Tool("tar", "tar", "tar"),
    Tool("unshare", "util-linux", "util-linux"),
    Tool("xz", "xz-utils", "xz"),
    Tool("zstd", "zstd", "zstd"),
)
GRUB_TOOLS = (Tool("grub-mkimage", "grub-common", "grub2-tools"),)
ZIPL_TOOLS = (Tool("qemu-s390x-static", "qemu-user-static", "qemu-user-static"),)
LIVE_TOOLS = (Tool("mksquashfs", "squashfs-tools", "squashfs-tools"),)
PC_ISO_TOOLS = (Tool("genisoimage", "genisoimage", "genisoimage"), Tool("isohybrid", "syslinux-utils", "syslinux"))
IPL_ISO_TOOLS = (Tool("xorriso", "xorriso", "xorriso"),)
ZIP_TOOLS = (Tool("zip", "zip", "zip"),)
SECEX_TOOLS = (Tool("veritysetup", "cryptsetup-bin", "veritysetup"),)
SIGN_TOOLS = (Tool("gpg", "gnupg", "gnupg2"),)


def missing_tools(tools: Iterable[Tool]) -> list[Tool]:
    """Return those of `tools` that are not on the PATH (sbin included)."""
    return [tool for tool in tools if shutil.which(tool.program, path=search_path()) is None]


def search_path() -> str:
    """Return PATH with the sbin directories, which an ordinary login may lack."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def describe_missing(tools: Iterable[Tool]) -> str:
    """Say all at once what is missing and what to install."""
    tools = list(tools)
    programs = ", ".join(tool.program for tool in tools)
    debian = " ".join(sorted({tool.debian for tool in tools}))
    fedora = " ".join(sorted({tool.fedora for tool in tools}))
    return (
        f"missing programs: {programs}\n  Debian: apt-get install {debian}\n  Fedora (untested): dnf install {fedora}"
    )


class Runner:
    """Runs host programs, and can end all of them at once from a signal handler."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = {**os.environ, "PATH": search_path(), "LC_ALL": "C", **(env or {})}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._cancelled = threading.Event()

    def with_env(self, env: Mapping[str, str]) -> "Runner":
        """Return a runner with other variables whose programs this one's `cancel` ends as well."""
        other = Runner({**self._env, **env})
        other._running, other._cancelled = self._running, self._cancelled
        return other

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End the running programs (each leads a session, so its children too) and refuse new ones."""
        self._cancelled.set()
        for process in list(self._running):
            _kill(process)

    def run(
        self,
        *argv: str | Path,
        stdin: bytes | None = None,
        stdout: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        protected: bool = False,
    ) -> bytes:
        """Run a program to its end and return what it wrote, or write that to the file `stdout`.

        One that takes longer than `timeout` seconds is killed with its children, which is a BuildError. `cancel`
        neither ends nor refuses `protected` programs, those that take and give back loop devices.
        """
        if self.cancelled and not protected:
            raise CancelledBuildError("stopped")
        if stdout is None:
            return self._finish(argv, subprocess.PIPE, stdin, cwd, env, timeout, protected=protected)
        with stdout.open("wb") as sink:
            return self._finish(argv, sink, stdin, cwd, env, timeout, protected=protected)

    def _finish(
        self,
        argv: tuple[str | Path, ...],
        stdout: int | IO[bytes],
        stdin: bytes | None,
        cwd: Path | None,
        env: Mapping[str, str] | None,
        timeout: float | None,
        *,
        protected: bool,
    ) -> bytes:
        process = subprocess.Popen(
            [os.fspath(word) for word in argv],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**self._env, **(env or {})},
            start_new_session=True,
        )
        if not protected:
            self._running.add(process)
            if self.cancelled:  # it began after `cancel` looked
                _kill(process)
        try:
            output, errors = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            process.communicate()
            raise BuildError(f"{_shown(argv)} did not end within {timeout:g} seconds") from error
        finally:
            self._running.discard(process)
        if process.returncode:
            if self.cancelled and not protected:
                raise CancelledBuildError("stopped")
            tail = errors.decode(errors="replace").strip()[-2000:]
            raise BuildError(f"command failed with {process.returncode}: {_shown(argv)}\n{tail}")
        return output or b""


def _shown(argv: Iterable[str | Path]) -> str:
    return " ".join(os.fspath(word) for word in argv)[:500]


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


class Steps:
    """Prints one line per finished step, with its seconds and the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step; a step that fails prints nothing."""
        begin = time.monotonic()
        yield
        now = time.monotonic()
        with self._lock:
            print(f"{now - self._start:7.1f}s  {name}: {now - begin:.1f} s", flush=True)
