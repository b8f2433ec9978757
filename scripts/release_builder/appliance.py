"""Making disks without root: in the libguestfs appliance, a small virtual machine that any user may start.

The code that makes disks on loop devices runs there unchanged (`inside`), in a root directory with Python and the
programs that it calls. The disks come out through drives of the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from .content import Packages
from .disk import Image
from .guestfish import Machine, machine_environment
from .metadata import Artifact, Digest
from .platforms import Platform
from .rawimage import Kit
from .tools import BuildError, Runner, search_path
from .workshop import Options
from .wrap import Target

BUILD = "/build"  # in the appliance
RESULT = "result.json"
LIVE = "live"
SCRATCH_SIZE = 64 << 30  # sparse
UNKNOWN_SIZE = 16 << 30  # of a disk whose size follows from the content, until it is known
# What the build calls besides the programs that it checks for.
_PROGRAMS = (
    "bash", "cat", "cp", "date", "dd", "e2fsck", "env", "find", "ln", "ls", "mkdir", "mktemp", "mv", "readlink", "rm",
    "sed", "sh", "sync", "true", "umount", "uname",
)  # fmt: skip
_SETTINGS = ("/etc/mke2fs.conf", "/etc/ld.so.cache", "/etc/ld.so.conf")
_USERS = {"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n"}
_SKIPPED_PYTHON = ("test", "site-packages", "dist-packages", "idlelib", "tkinter", "ensurepip", "__pycache__")


class ApplianceWorkshop:
    """Makes all disks at once in the appliance, and gives them out one by one."""

    def __init__(self, options: Options, kit: Kit, fetched: Packages) -> None:
        self._options = options
        self._kit = kit
        self._fetched = fetched
        self._top = kit.work / "appliance"
        self._live: list[Artifact] = []

    def prepare(self) -> str:
        """Let the appliance make everything; return the ostree commit."""
        kit = self._kit
        self._top.mkdir()
        with kit.steps.step("appliance: programs"):
            archive = self._top / "root.tar"
            pack_root(kit.runner, self._top / "root", archive, self._programs(), self._fetched)
        drives = self._drives()
        script = self._script(archive, list(drives))
        with kit.steps.step("appliance: disks"):
            Machine(kit.runner, machine_environment(kit.runner, self._top)).run(script)
        result = json.loads((self._top / RESULT).read_text(encoding="utf-8"))
        if error := result.get("error"):
            raise BuildError(f"in the appliance: {error}")
        for name, size in result["sizes"].items():
            os.truncate(self._path(name), size)
        self._live = [_artifact(item) for item in result["live"]]
        return str(result["commit"])

    def disk(self, platform: Platform) -> Image:
        """Return a platform's disk."""
        return Image(self._path(platform.name), platform.sector_size)

    def shared(self, platform: Platform) -> bool:
        """Tell that no disk is needed twice."""
        return False

    def live(self, target: Target) -> list[Artifact]:
        """Move the live artifacts to their place."""
        for artifact in self._live:
            shutil.move(self._top / LIVE / artifact.filename, target.directory / artifact.filename)
        return self._live

    def _path(self, name: str) -> Path:
        return self._kit.work / f"{name}.raw"

    def _programs(self) -> list[str]:
        tools = self._options.selection.tools(sign=False)
        return [*_PROGRAMS, *(tool.program for tool in tools if tool.program not in ("apt-get", "qemu-img", "xz"))]

    def _drives(self) -> dict[str, int]:
        """Make an empty drive for each disk that is asked for; return name and size."""
        sizes = {
            platform.name: self._options.size_of(platform.size) or UNKNOWN_SIZE
            for platform in self._options.selection.platforms
        }
        for name, size in sizes.items():
            _sparse(self._path(name), size)
        _sparse(self._top / "scratch.img", SCRATCH_SIZE)
        return sizes

    def _script(self, archive: Path, disks: Sequence[str]) -> str:
        options = self._options
        platforms = [*disks, *([LIVE] if options.selection.live else [])]
        arguments = {
            "arch": options.architecture.name, "era": options.era, "live_options": options.live_options,
            "content": options.content, "build_id": options.build_id,
            "cloud_size": options.cloud_size, "ibmcloud_size": options.ibmcloud_size,
            "platforms": ",".join(platforms), "packages": {
                "tree": _file_names(self._fetched.tree), "support": _file_names(self._fetched.support),
                "zipl": [path.name for path in self._fetched.zipl],
            }, "disks": list(disks),
        }  # fmt: skip
        (self._top / "request.json").write_text(json.dumps(arguments), encoding="utf-8")
        python = Path(sys.executable).resolve()
        lines = [f"add-drive {_quoted(self._top / 'scratch.img')} format:raw discard:besteffort"]
        lines += [
            f"add-drive {_quoted(self._path(name))} format:raw discard:besteffort label:{drive_label(index)}"
            for index, name in enumerate(disks)
        ]
        lines += [
            "set-memsize 2048", "run", "-modprobe loop", "-modprobe xfs",
            "mkfs ext4 /dev/sda", "mount-options user_xattr /dev/sda /",
            f"tar-in {_quoted(archive)} / xattrs:false",
            f"upload {_quoted(self._top / 'request.json')} {BUILD}/request.json",
            f'sh "cd {BUILD}/scripts && PYTHONDONTWRITEBYTECODE=1 {python} -m release_builder.inside 2>&1"',
            f"download {BUILD}/{RESULT} {_quoted(self._top / RESULT)}",
        ]  # fmt: skip
        if options.selection.live:
            lines.append(f"copy-out {BUILD}/{LIVE} {_quoted(self._top)}")
        return "\n".join(lines) + "\n"


def drive_label(index: int) -> str:
    """Return the label of the drive for the disk with this number; labels have letters only (guestfs(3))."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return f"disk{letters}"


def _artifact(item: dict[str, object]) -> Artifact:
    digest = item.pop("digest")
    assert isinstance(digest, dict)
    return Artifact(digest=Digest(**digest), **item)  # type: ignore[arg-type]


def as_json(artifact: Artifact) -> dict[str, object]:
    """Return an artifact without compression as the appliance reports it."""
    return {name: value for name, value in asdict(artifact).items() if name not in ("uncompressed", "signed")}


def _file_names(files: dict[str, Path]) -> dict[str, str]:
    return {name: path.name for name, path in files.items()}


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)


def needed_libraries(runner: Runner, programs: Iterable[Path]) -> set[Path]:
    """Return the shared libraries of programs and libraries, the loader included, as the host names them."""
    found: set[Path] = set()
    for program in programs:
        try:
            text = runner.run("ldd", program).decode()
        except BuildError:
            continue  # a script, or linked statically
        words = [word for line in text.splitlines() for word in line.split() if word.startswith("/")]
        found.update(Path(word) for word in words)
    return found


def _python_files() -> list[Path]:
    standard = Path(sysconfig.get_path("stdlib"))
    files = []
    for directory, names, entries in os.walk(standard):
        names[:] = [name for name in names if name not in _SKIPPED_PYTHON and not name.startswith("config-")]
        files += [Path(directory, name) for name in entries]
    return files


def _character_sets(libraries: Iterable[Path]) -> list[Path]:
    """Return what mtools needs to write names in the code page of FAT."""
    return [
        file
        for directory in {path.parent / "gconv" for path in libraries}
        for pattern in ("gconv-modules*", "gconv-modules.d/*", "IBM850.so")
        for file in directory.glob(pattern)
        if file.is_file()
    ]


def pack_root(runner: Runner, top: Path, archive: Path, programs: Iterable[str], fetched: Packages) -> None:
    """Collect programs with their libraries, Python, this package and the content's packages into one archive."""
    usr = top / "usr"
    for name in ("bin", "sbin", "lib", "lib64"):
        (usr / name).mkdir(parents=True)
        (top / name).symlink_to(f"usr/{name}")
    for name in ("etc", "tmp", "run", "root", "dev", "proc", "sys", "var/tmp"):
        (top / name).mkdir(parents=True)
    (top / "etc/mtab").symlink_to("/proc/self/mounts")
    for name, text in _USERS.items():
        (top / "etc" / name).write_text(text, encoding="utf-8")
    files = {Path(found) for name in programs if (found := shutil.which(name, path=search_path()))}
    python = Path(sys.executable).resolve()
    modules = _python_files()
    extensions = [path for path in modules if path.suffix == ".so"]
    libraries = needed_libraries(runner, [*files, python, *extensions])
    for path in (*libraries, *_character_sets(libraries), *files, python, *modules):
        _copy(path, top)
    for setting in _SETTINGS:
        if Path(setting).exists():
            _copy(Path(setting), top)
    package = Path(__file__).resolve().parent
    scripts = top / BUILD.lstrip("/") / "scripts"
    shutil.copytree(package, scripts / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    store = top / BUILD.lstrip("/") / "packages"
    store.mkdir()
    for path in fetched.files:
        (store / path.name).symlink_to(path)  # followed by tar
    runner.run("tar", "-c", "--owner=0", "--group=0", "-f", archive, "-C", top, "--exclude=./build/packages", ".")
    runner.run("tar", "-r", "-h", "--owner=0", "--group=0", "-f", archive, "-C", top, "./build/packages")
    shutil.rmtree(top)


def _copy(path: Path, top: Path) -> None:
    """Copy a file to its place below `top`; on a host whose /lib is /usr/lib that is the same place."""
    target = top / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)
