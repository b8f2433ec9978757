"""Each format goes to a pipe in little memory, and without a file of the disk's size anywhere."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import resource
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.support.cli import PROGRAM, environment, fine
from tests.support.containers import convert
from tests.support.disks import MIB, metal_disk, sibling
from tests.support.releases import ReleaseMaker

DATA = 64 * MIB
SIZE = 80 * MIB
# 49 to 72 MiB are usual; a program that held the data would need them besides.
MAX_RSS = 108 * MIB
MAX_FILE = 16 * MIB  # of any file that is written
OVF = b'<?xml version="1.0"?>\n<Envelope/>\n'

# artifacts by key: what their file is called, and how they are asked for
FILES = {
    "metal": "raw",
    "qemu": "qcow2",
    "nutanix": "qcow2",
    "vultr": "qcow2",
    "aws": "vmdk",
    "azure": "vhd",
    "hyperv": "vhdx.zip",
    "gcp": "tar.gz",
    "vmware": "ova",
    "powervs": "ova.gz",
    "kubevirt": "ociarchive",
    "exoscale": "qcow2.xz",
    "applehv": "raw.gz",
}
SHIPPED = ("hyperv", "gcp", "powervs", "exoscale", "applehv")


def large_disk() -> bytes:
    """A CoreOS-like disk whose blocks are all different and compress fast, to sizes that tell nothing of each other."""
    small, order = metal_disk(), random.Random(1)
    numbers = range((DATA - len(small)) // 4096)
    rest = b"".join(
        (order.randbytes(order.randrange(600)) + struct.pack("<Q", number) * 512)[:4096] for number in numbers
    )
    return (small + rest).ljust(SIZE, b"\0")


class Wrapper:
    """Wraps a disk with the real tools, in a directory of its own."""

    def __init__(self, disk: bytes, work: Path) -> None:
        self._work = work
        self._raw = work / "disk.raw"
        self._raw.write_bytes(disk)

    def image(self, *options: str) -> bytes:
        made = convert(self._raw, self._work / "image", *options)
        data = made.read_bytes()
        made.unlink()
        return data

    def tar(self, members: dict[str, bytes | None], *options: str) -> bytes:
        """Return an archive; None stands for the raw disk."""
        for name, content in members.items():
            path = self._work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content)
        command: list[str | Path] = ["tar", "-C", self._work, "--mtime=@1700000000", *options, "-cf", "-", *members]
        data = subprocess.run(command, check=True, capture_output=True).stdout
        for name, content in members.items():
            if content is not None:
                (self._work / name).unlink()
        return data

    def oci(self, disk: bytes) -> bytes:
        """Return an archive of an OCI image with one layer."""
        layer = self.tar({"disk/image.qcow2": disk}, "--format=posix")
        blobs = [gzip.compress(layer, 6, mtime=1)]
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}
        blobs.append(json.dumps(config).encode())
        layers = [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": len(blobs[0])}]
        layers[0]["digest"] = digest(blobs[0])
        manifest = {"schemaVersion": 2, "config": {"digest": digest(blobs[1]), "size": len(blobs[1])}, "layers": layers}
        blobs.append(json.dumps(manifest).encode())
        index = {"schemaVersion": 2, "manifests": [{"digest": digest(blobs[2]), "size": len(blobs[2])}]}
        members: dict[str, bytes | None] = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in blobs}
        members |= {"index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
        return self.tar(members, "--format=posix")


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def release(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> ReleaseMaker:
    """A release with every format, of disks that are larger than what a program may take."""
    need("qemu-img", "tar")
    root = tmp_path_factory.mktemp("streaming")
    metal = large_disk()
    wrap = Wrapper(sibling(metal, 2), root)
    vmdk = wrap.image("vmdk", "-o", "subformat=streamOptimized")
    maker = ReleaseMaker(root / "release")
    contents: dict[str, Callable[[], bytes]] = {
        "metal": lambda: metal,
        "qemu": lambda: wrap.image("qcow2"),
        "nutanix": lambda: wrap.image("qcow2", "-c"),
        "vultr": lambda: wrap.image("qcow2", "-c", "-o", "cluster_size=4k"),
        "aws": lambda: vmdk,
        "azure": lambda: wrap.image("vpc", "-o", "subformat=fixed,force_size"),
        "hyperv": lambda: wrap.image("vhdx", "-o", "block_size=1M"),
        "gcp": lambda: wrap.tar({"disk.raw": None}, "--format=oldgnu", "--sparse"),
        "vmware": lambda: wrap.tar({"coreos.ovf": OVF, "disk.vmdk": vmdk}, "--format=ustar"),
        "powervs": lambda: wrap.tar({"coreos.ovf": OVF, "disk.raw": None}, "--format=gnu", "--sparse"),
        "kubevirt": lambda: wrap.oci(wrap.image("qcow2")),
        "exoscale": lambda: wrap.image("qcow2"),
        "applehv": lambda: sibling(metal, 2),
    }
    for key, make in contents.items():
        maker.add(key, FILES[key], make())
    maker.finish()
    return maker


@pytest.fixture(scope="module")
def store(release: ReleaseMaker) -> Path:
    path = release.root.parent / "store"
    fine("build", "dehydrate", release.root, path, "--progress", "none", "--level", "1")
    return path


def peak(pid: int) -> int:
    """Return the most resident memory that a running program has had, in bytes; 0 if it has just ended."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def piped(*arguments: str | Path) -> tuple[bytes, int, int]:
    """Run the program with a pipe as output; return the output's sha256 and size, and its peak memory."""
    sha256, size, memory = hashlib.sha256(), 0, 0
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, env=environment()) as run:
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))  # a sparse file counts as well
        assert run.stdout is not None
        while piece := run.stdout.read(MIB):
            sha256.update(piece)
            size += len(piece)
            memory = max(memory, peak(run.pid))
    assert run.returncode == 0
    return sha256.digest(), size, memory


def test_every_artifact_is_told_by_edits(store: Path) -> None:
    listed = msgspec.json.decode(fine("list", "--store", store, "--json").out)["artifacts"]
    assert {item["platform"]: item["rung"] for item in listed} == dict.fromkeys(FILES, "edits")


@pytest.mark.parametrize(("key", "kept"), [("nutanix", True), ("aws", True), ("vmware", True), ("vultr", False)])
def test_whose_sizes_are_in_a_table(store: Path, key: str, kept: bool) -> None:
    """What has none is compressed into a temporary file, which may have no more than MAX_FILE below."""
    told = fine("info", key, "--store", store).text
    assert ("their sizes in a table" in " ".join(told.split())) == kept


@pytest.mark.oracle
@pytest.mark.parametrize("key", FILES)
def test_to_a_pipe(release: ReleaseMaker, store: Path, key: str) -> None:
    name = next(name for name in release.content if f"-{key}." in name)
    sha256, size, memory = piped("rehydrate", "-", "--disk", key, "--store", store)
    assert sha256 == hashlib.sha256(release.content[name]).digest()
    assert 0 < memory < MAX_RSS, f"{memory / MIB:.0f} MiB for {size / MIB:.0f} MiB"


@pytest.mark.oracle
@pytest.mark.parametrize("key", SHIPPED)
def test_compressed_to_a_pipe(release: ReleaseMaker, store: Path, key: str) -> None:
    sha256, size, memory = piped("rehydrate", "-", "--disk", key, "--compressed", "--store", store)
    assert sha256.hex() == release.images[key]["sha256"]
    assert 0 < memory < MAX_RSS, f"{memory / MIB:.0f} MiB for {size / MIB:.0f} MiB"
