"""The ostree repository and deployment, made by ostree itself."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .selinux import label_tree
from .tools import BuildError, Runner

OSNAME = "fedora-coreos"
# The image builder lowers newer modification times in the tree to this.
SOURCE_EPOCH = 1659397331


def ref_of(arch: str) -> str:
    """Return the branch of an architecture."""
    return f"fedora/{arch}/coreos/testing"


@dataclass(frozen=True)
class Deployment:
    """A physical root (with /ostree and /boot) that is ready to be copied onto a disk."""

    tree: Path
    commit: str
    content_bytes: int


def deploy(runner: Runner, root: Path, arch: str, build_id: str, work: Path) -> Deployment:
    """Commit `root` and deploy it into a new sysroot under `work`; nothing of it is executed."""
    ref = ref_of(arch)
    build_repo, tree = work / "build-repo", work / "tree"
    runner.run("ostree", "init", f"--repo={build_repo}", "--mode=bare")
    commit = runner.run(
        "ostree", "commit", f"--repo={build_repo}", f"--branch={ref}", f"--tree=dir={root}", "--bootable",
        f"--add-metadata-string=version={build_id}", f"--subject=CoreOS-like test release {build_id}",
        "--owner-uid=0", "--owner-gid=0", "--link-checkout-speedup",
    ).decode().strip()  # fmt: skip
    tree.mkdir()
    runner.run("ostree", "admin", "init-fs", "--modern", tree)
    runner.run("ostree", "admin", "os-init", OSNAME, f"--sysroot={tree}")
    repo = tree / "ostree/repo"
    for key, value in {
        "readonly": "true", "bootloader": "none", "bls-append-except-default": 'grub_users=""', "bootprefix": "true",
    }.items():  # fmt: skip
        runner.run("ostree", "config", f"--repo={repo}", "set", f"sysroot.{key}", value)
    (tree / "boot/efi").mkdir(parents=True, mode=0o755)
    (tree / "boot/ignition.firstboot").touch()
    runner.run("ostree", "pull-local", f"--repo={repo}", "--remote=fedora", build_repo, ref)
    runner.run(
        "ostree", "admin", "deploy", f"--sysroot={tree}", f"--os={OSNAME}", "--karg=rw", "--karg=$ignition_firstboot",
        "--karg=mitigations=auto,nosmt", f"fedora:{ref}",
    )  # fmt: skip
    # The immutable bit on the deployment is set again on the disk; here it only hinders the clean-up.
    for path in (tree / "ostree/deploy" / OSNAME / "deploy").glob("*.0"):
        runner.run("chattr", "-i", path)
    _write_aleph(tree, build_id, ref, commit)
    if not (tree / "boot/boot").is_symlink():
        (tree / "boot/boot").symlink_to(".")
    _prefix_boot_paths(tree)
    _unlink_boot_files(tree)
    label_tree(tree / "boot", lambda _path: "boot_t")
    clamp_times(tree, SOURCE_EPOCH)
    return Deployment(tree, commit, disk_usage(tree))


def _write_aleph(tree: Path, build_id: str, ref: str, commit: str) -> None:
    aleph = {"version": build_id, "ref": f"fedora:{ref}", "ostree-commit": commit}
    (tree / ".aleph-version.json").write_text(json.dumps(aleph, indent=2) + "\n", encoding="utf-8")
    (tree / ".coreos-aleph-version.json").symlink_to(".aleph-version.json")


def _prefix_boot_paths(tree: Path) -> None:
    """Do what sysroot.bootprefix asks for, where ostree is too old to know it (2022.7 is)."""
    entries = list((tree / "boot/loader/entries").glob("ostree-*.conf"))
    if len(entries) != 1:
        raise BuildError(f"ostree wrote {len(entries)} boot loader entries instead of one")
    text = entries[0].read_text(encoding="utf-8")
    entries[0].write_text(re.sub(r"(?m)^(linux|initrd) /ostree/", r"\1 /boot/ostree/", text), encoding="utf-8")


def _unlink_boot_files(tree: Path) -> None:
    """Make /boot's files independent: here ostree could link them to its objects, on the disk they are apart."""
    for path in (tree / "boot/ostree").rglob("*"):
        if path.is_file() and path.stat().st_nlink > 1:
            copy = path.with_name(path.name + ".copy")
            shutil.copy2(path, copy)
            copy.replace(path)


def clamp_times(top: Path, latest: int) -> None:
    """Lower every later modification time below `top` to `latest`."""
    for directory, names, files in os.walk(top):
        for name in (".", *names, *files):
            path = Path(directory, name)
            if path.lstat().st_mtime > latest:
                os.utime(path, (latest, latest), follow_symlinks=False)


def disk_usage(top: Path) -> int:
    """Return the bytes below `top` in whole 4 KiB blocks, counting hard links once."""
    seen = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            status = Path(directory, name).lstat()
            seen[status.st_dev, status.st_ino] = -(-status.st_size // 4096) * 4096
    return sum(seen.values())
