"""``verify --mount``: what a real kernel sees of a disk, compared with its manifest."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from rehydrator.disk.extents import Extent
from rehydrator.disk.gpt import read_table
from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import Window
from rehydrator.engines.direct import body_source
from rehydrator.engines.guestfs.bindings import Handle
from rehydrator.engines.guestfs.files import Named
from rehydrator.engines.guestfs.fsck import Checkers
from rehydrator.engines.guestfs.machine import Machine
from rehydrator.engines.guestfs.mounted import Mounts, problems
from rehydrator.engines.guestfs.tree import Attribute, Node, Tree, read_tree
from rehydrator.engines.guestfs.view import View, Volume, look
from rehydrator.fs.ext4.owner import Ext4Filesystem
from rehydrator.fs.place import Kind
from rehydrator.store.reader import Store
from tests.support.cli import fine

FILE = Node(kind="file", mode=0o644, size=3, sha256="aa")
OPENSTACK = "openstack.qcow2.xz.disk"
ESP, BOOT, ROOT = "/dev/sda2", "/dev/sda3", "/dev/sda4"


def test_a_tree_is_read_from_a_tar_stream() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_member("./", tarfile.DIRTYPE, mode=0o755))
        labelled = _member("./a", size=3, pax_headers={"SCHILY.xattr.security.selinux": "boot_t\0", "comment": "x"})
        archive.addfile(labelled, io.BytesIO(b"abc"))
        archive.addfile(_member("./b", tarfile.LNKTYPE, linkname="./a"))
        archive.addfile(_member("./c", tarfile.SYMTYPE, linkname="a"))
        archive.addfile(_member("./d", tarfile.CHRTYPE, devmajor=1, devminor=3))
    nodes = read_tree(io.BytesIO(stream.getvalue())).nodes
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    label = Attribute("security.selinux", "boot_t")
    two = Node(kind="file", mode=0o644, size=3, sha256=abc, hard_link="/a", attributes=(label,))
    assert nodes == {
        "/": Node(kind="directory", mode=0o755),
        "/a": two,
        "/b": two,
        "/c": Node(kind="symbolic link", mode=0o644, link="a"),
        "/d": Node(kind="character device", mode=0o644, device="1:3"),
    }


def _member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/plain/x", "/plain/x"),
        ("/loader/entries/x", "/loader.1/entries/x"),
        ("/boot/boot/loader/x", "/loader.1/x"),
        ("/up/x", "/plain/x"),
        ("/absolute/x", "/plain/x"),
        ("/round/x", "/round/x"),
        ("/loader", "/loader"),
    ],
)
def test_symbolic_links_on_the_way_are_followed(path: str, expected: str) -> None:
    links = {"/loader": "loader.1", "/boot": ".", "/sub/up": "../plain", "/up": "sub/up", "/absolute": "/plain"}
    links |= {"/round": "round"}
    tree = Tree({at: Node(kind="symbolic link", mode=0o777, link=link) for at, link in links.items()})
    assert tree.resolve(path) == expected


def test_partitions_that_differ_are_told() -> None:
    boot = Volume("ext4", "boot", "", Tree({"/a": FILE}))
    root = Volume("xfs", "root", "", Tree({}))
    other = Volume("xfs", "ROOT", "xfs_repair finds errors", Tree({}))
    assert problems(View({"p3": boot, "p4": root}), View({"p4": other, "p5": boot}), []) == [
        "p3: partition is missing",
        "p4: xfs_repair finds errors",
        "p4: xfs 'ROOT' instead of xfs 'root'",
        "p5: partition is not in the canonical disk",
    ]


def _change(handle: Handle) -> None:
    """Change files as no manifest says."""
    guest = cast(Any, handle)  # a person may call more than the engine does
    guest.mount(BOOT, "/")
    guest.chmod(0o600, "/grub2/grub.cfg")
    guest.write("/grub2/console.cfg", b"abc")
    guest.rm("/coreos/platforms.json")
    guest.mkdir("/new")
    guest.lsetxattr("security.selinux", "else", 4, "/grub2/grubenv")
    guest.umount_all()
    guest.mount_options("nouuid", ROOT, "/")
    guest.ln_sf("elsewhere", "/coreos-aleph-version.json")
    guest.umount_all()


def _damage(disk: Overlay) -> None:
    """Let the first blocks of the boot partition look free."""
    region = next(region for region in read_table(disk).regions if region.number == 3)
    bitmap = next(
        place
        for place in Ext4Filesystem(Window(disk, *region.extent)).places([Extent(0, region.extent.length)])
        if place.kind is Kind.BLOCK_BITMAP
    )
    disk.write(region.extent.offset + bitmap.start, bytes(16))


@pytest.mark.builder
def test_what_no_manifest_says_is_found(real_store: Path, machine: Machine) -> None:
    with Store(real_store) as store:
        manifest = store.manifest_by_key("x86_64", OPENSTACK)
        disk = body_source(manifest, store)
        said: list[str] = []
        assert Mounts(machine, store, said.append).problems(manifest) == []
        checkers = Checkers(machine, said.append)
        before = look(machine, disk, checkers)
        changed = machine.insert(disk)
        machine.call(_change)
        entry = before.volumes["p3 boot"].tree.resolve("/loader/entries/ostree-1-fedora-coreos.conf")
        named = [Named("p3 boot", entry, b"other")]
        told = problems(before, look(machine, changed, checkers), named)
        assert [re.sub(r"[0-9a-f]{64}", "HASH", text) for text in told] == [
            "p3 boot: /coreos/platforms.json is missing",
            "p3 boot: /grub2/console.cfg: size 3 instead of 190, sha256 HASH instead of HASH",
            "p3 boot: /grub2/grub.cfg: mode 0600 instead of 0644",
            "p3 boot: /grub2/grubenv: security.selinux else instead of system_u:object_r:boot_t:s0",
            f"p3 boot: {entry} has not the content that the manifest tells",
            "p3 boot: /new is not in the canonical disk",
            "p4 root: /coreos-aleph-version.json: link elsewhere instead of .aleph-version.json",
        ]
        _damage(changed)
        [first, *_rest] = problems(before, look(machine, changed, checkers), named)
        assert re.match(r"p3 boot: e2fsck corrects .*block bitmap of group 0", first)


@pytest.mark.builder
def test_a_checker_that_the_appliance_lacks_is_named_once(real_store: Path, machine: Machine) -> None:
    said: list[str] = []
    with Store(real_store) as store:
        disk = store.canonical("x86_64")
        driven = machine.insert(disk)
        [esp] = [region for region in read_table(disk).regions if region.number == 2]
        place = machine.call(lambda handle: handle.debug("sh", ["command -v fsck.vfat"])).strip()
        machine.call(lambda handle: handle.debug("sh", [f"mv {place} {place}.away"]))
        try:
            checkers = Checkers(machine, said.append)
            assert [checkers.problem(ESP, "vfat", esp, disk, driven) for _ in range(2)] == ["", ""]
        finally:
            machine.call(lambda handle: handle.debug("sh", [f"mv {place}.away {place}"]))
    assert said == ["vfat file systems are mounted, but not checked: the appliance has no fsck.vfat"]


@pytest.mark.builder
@pytest.mark.oracle
def test_a_kernel_sees_what_virt_ls_lists(
    real_store: Path,
    machine: Machine,
    appliance_environment: dict[str, str],
    need: Callable[..., None],
    tmp_path: Path,
) -> None:
    need("virt-ls")
    image = _rehydrated(real_store, tmp_path)
    words: list[str | Path] = [
        "-lR",
        "--csv",
        "--uids",
        "--extra-stats",
        "--checksum=sha256",
        "-m",
        BOOT,
        "--format=qcow2",
        "-a",
        image,
    ]
    env = _emulated(appliance_environment)
    done = subprocess.run(["virt-ls", *words, "/"], env=env, stdout=subprocess.PIPE, check=True, text=True)
    seen = _boot_seen(real_store, machine)
    listed = dict(_listed(row) for row in csv.reader(io.StringIO(done.stdout)))
    unlisted = {path: replace(node, attributes=(), hard_link=_several(node.hard_link)) for path, node in seen.items()}
    assert unlisted == listed


@pytest.mark.builder
@pytest.mark.oracle
def test_a_kernel_sees_what_guestfish_reads(
    real_store: Path,
    machine: Machine,
    appliance_environment: dict[str, str],
    need: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Checksums and SELinux labels of every file of the boot partition."""
    need("guestfish")
    image = _rehydrated(real_store, tmp_path)
    seen = {path: node for path, node in _boot_seen(real_store, machine).items() if node.kind == "file"}
    sums = tmp_path / "sums"
    script = [f"add-drive {image} format:qcow2 readonly:true", "run", f"mount-ro {BOOT} /"]
    script += [f"checksums-out sha256 / {sums}"]
    script += [f"echo {path}\n-lgetxattr {path} security.selinux\necho" for path in seen]  # some have none
    done = subprocess.run(
        ["guestfish"],
        input="\n".join(script),
        env=_emulated(appliance_environment),
        capture_output=True,
        check=True,
        text=True,
    )
    labels = dict(re.findall(r"^(/.*)\n([^/\n\0]+)", done.stdout, re.MULTILINE))
    assert len(labels) > 3
    assert labels == {path: item.value for path, node in seen.items() for item in node.attributes}
    lines = (line.split("  .", 1) for line in sums.read_text().splitlines())
    assert {path: digest for digest, path in lines} == {path: node.sha256 for path, node in seen.items()}


def _rehydrated(store: Path, directory: Path) -> Path:
    fine("rehydrate", directory, "--disk", "openstack", "--store", store)
    [image] = directory.iterdir()
    return image


def _emulated(appliance_environment: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **appliance_environment, "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}


def _boot_seen(path: Path, machine: Machine) -> dict[str, Node]:
    """Return the files of the boot partition as ``verify --mount`` sees them."""
    with Store(path) as store:
        disk = body_source(store.manifest_by_key("x86_64", OPENSTACK), store)
        return look(machine, disk, Checkers(machine, print)).volumes["p3 boot"].tree.nodes


def _listed(row: list[str]) -> tuple[str, Node]:
    """Read a line of virt-ls; the sizes of directories and links are not among what a tar stream tells."""
    kind, mode, size, uid, gid, _device, _inode, links, _rdev, _blocks, digest, path, *link = row
    words = {"d": "directory", "-": "file", "l": "symbolic link"}
    return path, Node(
        kind=words[kind],
        mode=int(mode, 8),
        uid=int(uid),
        gid=int(gid),
        size=int(size) if kind == "-" else 0,
        link="".join(link),
        hard_link=_several(kind == "-" and int(links) > 1),
        sha256=digest,
    )


def _several(paths: object) -> str:
    return "several paths" if paths else ""


@pytest.mark.builder
def test_verify_mounts_each_disk(real_store: Path, appliance_environment: dict[str, str]) -> None:
    done = fine("verify", "openstack", "--mount", "--store", real_store, env=appliance_environment)
    assert re.search(rb"(\d+) of \1 files and artifacts are right", done.out)
