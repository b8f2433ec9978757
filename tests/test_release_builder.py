"""The release builder: its texts and tables, and one small release built for real."""

import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from rehydrator.boot.architectures import by_name
from rehydrator.disk.source import FileSource
from rehydrator.fs.iso9660.iso9660 import Iso9660
from rehydrator.live.embed import EmbedAreas
from rehydrator.live.minimal import minimal_iso
from tests.support import stores
from tests.support.cli import fails, fine
from tests.test_benchmark import bench, tables

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from release_builder import (  # noqa: E402
    architectures,
    bootconfig,
    content,
    disk,
    era2021,
    live_config,
    live_iso,
    metadata,
    ova,
    packages,
    platforms,
    secex,
    tools,
)
from release_builder.bincode import varint  # noqa: E402
from release_builder.metadata import Artifact, Build, Digest  # noqa: E402
from release_builder.osmet import Mapping, canonicalize  # noqa: E402
from release_builder.ostree import Deployment  # noqa: E402
from release_builder.rawimage import Kit  # noqa: E402

BUILD_ID = "44.20260707.3.1"
# Names of a real release (stable, July 2026), without "fedora-coreos-BUILD-" and the architecture.
X86_64_NAMES = {
    "aliyun": "aliyun.qcow2.xz",
    "applehv": "applehv.raw.gz",
    "aws": "aws.vmdk.xz",
    "azure": "azure.vhd.xz",
    "azurestack": "azurestack.vhd.xz",
    "digitalocean": "digitalocean.qcow2.gz",
    "exoscale": "exoscale.qcow2.xz",
    "gcp": "gcp.tar.gz",
    "hetzner": "hetzner.raw.xz",
    "hyperv": "hyperv.vhdx.zip",
    "ibmcloud": "ibmcloud.qcow2.xz",
    "kubevirt": "kubevirt.ociarchive",
    "metal": "metal.raw.xz",
    "metal4k": "metal4k.raw.xz",
    "nutanix": "nutanix.qcow2",
    "openstack": "openstack.qcow2.xz",
    "oraclecloud": "oraclecloud.qcow2.xz",
    "proxmoxve": "proxmoxve.qcow2.xz",
    "qemu": "qemu.qcow2.xz",
    "virtualbox": "virtualbox.ova",
    "vmware": "vmware.ova",
    "vultr": "vultr.raw.xz",
}
OTHER_NAMES = {
    "aarch64": "applehv.raw.gz aws.vmdk.xz azure.vhd.xz gcp.tar.gz hetzner.raw.xz hyperv.vhdx.zip metal.raw.xz "
    "metal4k.raw.xz openstack.qcow2.xz oraclecloud.qcow2.xz qemu.qcow2.xz",
    "ppc64le": "metal.raw.xz metal4k.raw.xz openstack.qcow2.xz powervs.ova.gz qemu.qcow2.xz",
    "s390x": "ibmcloud.qcow2.xz kubevirt.ociarchive metal.raw.xz metal4k.raw.xz openstack.qcow2.xz qemu.qcow2.xz "
    "qemu-secex.qcow2.xz",
}
ENTRY = """title CoreOS
version 1
options rw $ignition_firstboot ostree=/ostree/boot.1/fedora-coreos/0123/0
linux /boot/ostree/fedora-coreos-0123/vmlinuz
initrd /boot/ostree/fedora-coreos-0123/initramfs.img
"""


def test_file_names_are_those_of_a_real_release() -> None:
    for name, architecture in architectures.ALL.items():
        names = set()
        for platform in architecture.platforms:
            compressed = f".{platform.compression.value}" if platform.compression.value else ""
            names.add(f"{platform.name}.{platform.suffix}{compressed}")
        assert names == set(X86_64_NAMES.values() if name == "x86_64" else OTHER_NAMES[name].split()), name
    assert platforms.artifact_name(BUILD_ID, "live-kernel", "x86_64") == (
        "fedora-coreos-44.20260707.3.1-live-kernel.x86_64"
    )


def test_metal4k_is_listed_under_metal_and_booted_as_metal() -> None:
    for architecture in architectures.ALL.values():
        metal4k = next(item for item in architecture.platforms if item.name == "metal4k")
        assert (metal4k.stream_platform, metal4k.stream_format) == ("metal", "4k.raw.xz")
        assert metal4k.platform_id == "metal"


def test_selection_adds_what_others_are_made_from() -> None:
    (selection,) = platforms.select("vmware,live", [architectures.X86_64])
    assert [item.name for item in selection.platforms] == ["vmware"]
    assert {item.name for item in selection.needed} == {"metal", "metal4k", "qemu", "vmware"}
    assert "genisoimage" in {tool.program for tool in selection.tools(sign=False)}


def test_each_architecture_takes_the_platforms_that_it_has() -> None:
    chosen = platforms.select("aws,kubevirt,powervs", architectures.by_names("aarch64,s390x,ppc64le"))
    assert [(item.architecture.name, [one.name for one in item.platforms], item.live) for item in chosen] == [
        ("aarch64", ["aws"], False),
        ("s390x", ["kubevirt"], False),
        ("ppc64le", ["powervs"], False),
    ]
    assert {tool.program for tool in chosen[1].tools(sign=False)} >= {"qemu-s390x-static"}
    only_x86 = platforms.select("vmware", architectures.by_names("all"))
    assert [item.architecture.name for item in only_x86] == ["x86_64"]


@pytest.mark.parametrize(("text", "arch"), [("metal,nosuch", "x86_64"), ("", "x86_64"), ("aws", "s390x,ppc64le")])
def test_selection_refuses_unknown_platforms(text: str, arch: str) -> None:
    with pytest.raises(tools.BuildError, match="there are metal, "):
        platforms.select(text, architectures.by_names(arch))


def test_2021_had_disks_of_its_own_for_metal_and_qemu() -> None:
    x86_64, s390x = era2021.of_era([architectures.X86_64, architectures.S390X], "2021")
    parents = {item.name: item.parent for item in x86_64.platforms}
    assert {name for name, parent in parents.items() if parent is platforms.Parent.OWN} == {"metal", "metal4k", "qemu"}
    assert parents["openstack"] is platforms.Parent.QEMU
    assert {item.type_guid[:8] for item in x86_64.partitions if item.name in ("boot", "root")} == {"0FC63DAF"}
    assert era2021.of_era([architectures.X86_64], "osbuild") == [architectures.X86_64]
    assert [item.name for item in s390x.platforms] == ["metal", "metal4k", "qemu", "ibmcloud", "openstack"]


@pytest.mark.parametrize("text", ["armv7hl", "x86_64,amd64", ""])
def test_unknown_architectures_are_refused(text: str) -> None:
    with pytest.raises(tools.BuildError, match="there are x86_64, aarch64, ppc64le, s390x"):
        architectures.by_names(text)


def test_sfdisk_script_counts_in_sectors_and_leaves_the_rest_to_root() -> None:
    script = disk.sfdisk_script(architectures.X86_64.partitions, 4096)
    assert script.startswith(f"label: gpt\nlabel-id: {disk.LABEL_ID}\n")
    lines = script.splitlines()[4:]
    assert lines[0] == 'size=256, type=21686148-6449-6E6F-744E-656564454649, name="BIOS-BOOT", bootable'
    assert lines[2].startswith("3: size=98304, type=BC13C2FF-")
    assert lines[3] == '4: type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name="root"'


def test_boot_and_root_have_the_same_numbers_everywhere() -> None:
    for architecture in architectures.ALL.values():
        lines = disk.sfdisk_script(architecture.partitions, 512).splitlines()[4:]
        assert [line[:2] for line in lines[-2:]] == ["3:", "4:"], architecture.name
        assert len(lines) == (2 if architecture is architectures.S390X else 4)


def test_stand_ins_begin_as_kernels_do(tmp_path: Path) -> None:
    """Where a content has no kernel, `check` still finds what loaders look for; x86_64 has a real boot image."""
    for name, architecture in architectures.ALL.items():
        if name != "x86_64":
            installed = tmp_path / name
            installed.write_bytes(b"\xff" * 100)
            content._complete(installed, architecture.stand_in)
            known = by_name(name)
            assert known is not None
            assert known.kernel_problem(installed.read_bytes()) == "", name


def test_the_disk_for_secure_execution_has_room_behind_root() -> None:
    lines = disk.sfdisk_script(architectures.SECEX_PARTITIONS, 512).splitlines()[4:]
    assert [line[:2] for line in lines] == ["1:", "3:", "4:", "5:", "6:"]
    assert secex.disk_size(0) == (1 + 200 + 384 + disk.MIN_ROOT_MIB + 128 + 256 + 1) * disk.MIB


def test_metal_size_has_room_for_the_smallest_xfs_and_for_a_third_more_content() -> None:
    assert disk.metal_size(architectures.X86_64, 0) == (513 + disk.MIN_ROOT_MIB + 1) * disk.MIB
    assert disk.metal_size(architectures.S390X, 0) == (385 + disk.MIN_ROOT_MIB + 1) * disk.MIB
    assert disk.metal_size(architectures.X86_64, 1000 * disk.MIB) == (513 + 1350 + 64 + 1) * disk.MIB


def test_platform_edit_appends_to_the_options_line_only() -> None:
    text = bootconfig.append_options(ENTRY, ("ignition.platform.id=qemu", "console=tty0"))
    changed = [line for line in text.splitlines() if line not in ENTRY.splitlines()]
    assert changed == [ENTRY.splitlines()[2] + " ignition.platform.id=qemu console=tty0"]
    assert len(text.splitlines()) == len(ENTRY.splitlines())


def test_second_generation_edit_puts_the_id_before_the_console() -> None:
    qemu, vmware = bootconfig.X86_64_CONSOLES["qemu"], bootconfig.X86_64_CONSOLES["vmware"]
    first = bootconfig.append_options(ENTRY, ("ignition.platform.id=qemu", *qemu.kernel_arguments))
    second = bootconfig.change_platform(first, "vmware", qemu, vmware)
    assert second == bootconfig.append_options(
        ENTRY, ("ignition.platform.id=vmware", "console=ttyS0,115200n8", "console=tty0")
    )


def test_console_cfg_can_be_written_and_replaced() -> None:
    empty = bootconfig.console_cfg(())
    assert empty.splitlines()[-3:] == [bootconfig.CONSOLE_START, "", bootconfig.CONSOLE_END]
    commands = bootconfig.X86_64_CONSOLES["qemu"].grub_commands
    full = bootconfig.replace_console_settings(empty, commands)
    assert full == bootconfig.console_cfg(commands)
    assert bootconfig.replace_console_settings(full, ()) == empty


def test_platforms_json_leaves_out_empty_fields_and_can_be_read_back() -> None:
    text = bootconfig.platforms_json(bootconfig.X86_64_CONSOLES)
    assert json.loads(text)["azure"] == {"kernel_arguments": ["console=tty0", "console=ttyS0,115200n8"]}
    assert bootconfig.console_of(text, "vmware") == bootconfig.X86_64_CONSOLES["vmware"]
    assert bootconfig.console_of(text, "metal") == bootconfig.Console()


def test_fields_of_an_entry() -> None:
    assert bootconfig.entry_field(ENTRY, "linux") == "/boot/ostree/fedora-coreos-0123/vmlinuz"
    assert bootconfig.entry_field(ENTRY, "options").startswith("rw $ignition_firstboot ostree=")
    assert bootconfig.entry_field(ENTRY, "nosuch") == ""


def test_live_arguments_and_embed_area() -> None:
    entry = bootconfig.append_options(ENTRY, ("ignition.platform.id=metal", "console=tty0", "mitigations=auto"))
    arguments = live_iso.live_arguments(entry, "volume")
    assert arguments == "rw mitigations=auto coreos.liveiso=volume"
    template = "linux @@KERNEL-ARGS@@\n####\n# COREOS_KARG_EMBED_AREA\n".replace("####\n#", "#####")
    text, offset, size = live_iso.embed_area(template, arguments)
    assert text[offset : offset + size] == f"{arguments}\n#####"[:size]
    assert text[offset + size :].startswith("# COREOS_KARG_EMBED_AREA")


@pytest.mark.oracle
def test_the_iso_of_s390x(need: Callable[..., None], tmp_path: Path) -> None:
    """It has the places for settings that coreos-installer looks for, and holds its minimal image."""
    need("xorriso")
    root, tree, work = tmp_path / "root", tmp_path / "tree", tmp_path / "work"
    live_config.write_live_config(root / "usr/share/coreos-assembler/live", "s390x")
    entries = tree / "boot/loader/entries"
    entries.mkdir(parents=True)
    (entries / "a.conf").write_text(bootconfig.append_options(ENTRY, ("ignition.platform.id=metal",)))
    pxeboot = work / "iso/images/pxeboot"
    pxeboot.mkdir(parents=True)
    for name, size in (("kernel.img", 70_000), ("initrd.img", 9_000), ("rootfs.img", 50_000)):
        (pxeboot / name).write_bytes(os.urandom(size))
    made_content = content.Content(root, tmp_path / "no", tmp_path / "no", root, "0", None)
    source = live_iso.Source(made_content, Deployment(tree, "", 0), BUILD_ID, "s390x")
    kit = Kit(tools.Runner(), disk.Loops(tools.Runner()), tools.Steps(), work)
    full = live_iso.build(kit, source, work)
    assert (work / "rootfs.img").stat().st_size == 50_000
    with FileSource(full) as image:
        areas = EmbedAreas(image, Iso9660(image))
        arguments = areas.kernel_arguments("/images/cdboot.img")
        assert arguments is not None
        assert arguments.split()[-3:] == [
            f"coreos.liveiso={source.volume_id}", "ignition.firstboot", "ignition.platform.id=metal"
        ]  # fmt: skip
        assert areas.ignition_config("/images/cdboot.img") == b""
        made = minimal_iso(image)
        assert made.size < image.size
    cd = (work / "iso/images/cdboot.img").read_bytes()
    at, length = struct.unpack_from(">QQ", cd, 66568)
    assert cd[at:][:length] == (pxeboot / "initrd.img").read_bytes() + bytes(256 << 10)
    assert (work / "iso/images/initrd.addrsize").read_bytes() == struct.pack(">IIII", 0, 0x02000000, 0, 9_000)


def test_osmet_mappings_are_sorted_and_do_not_overlap() -> None:
    first, second = b"1" * 32, b"2" * 32
    mappings = [Mapping(0, 8192, 4096, second), Mapping(0, 0, 8192, first), Mapping(0, 4096, 8192, second)]
    assert canonicalize(mappings) == [Mapping(0, 0, 8192, first), Mapping(4096, 8192, 4096, second)]


def test_varint() -> None:
    assert [varint(number).hex() for number in (250, 251, 65536, 1 << 32)] == [
        "fa", "fbfb00", "fc00000100", "fd0000000001000000",
    ]  # fmt: skip


def test_print_uris_of_apt() -> None:
    text = "'http://example.com/pool/b/bash_5.2-1_amd64.deb' bash_5.2-1_amd64.deb 1490652 SHA256:00\nother line\n"
    assert packages.parse_print_uris(text) == [packages.Download("bash", "bash_5.2-1_amd64.deb", 1490652)]


def test_missing_tools_are_named_all_at_once() -> None:
    absent = [tools.Tool("no-such-program-a", "deb-a", "rpm-a"), tools.Tool("no-such-program-b", "deb-b", "rpm-b")]
    text = tools.describe_missing(tools.missing_tools([*absent, tools.Tool("sh", "dash", "bash")]))
    assert "no-such-program-a, no-such-program-b" in text
    assert "apt-get install deb-a deb-b" in text
    assert "dash" not in text


def test_ovf_names_the_disk() -> None:
    text = ova.ovf_text(ova.Machine("vmware", BUILD_ID), "disk.vmdk", size=123, capacity=456)
    assert 'ovf:href="disk.vmdk"' in text
    assert 'ovf:capacity="456"' in text
    assert 'ovf:size="123"' in text


def _build() -> Build:
    digest, inner = Digest("a" * 64, 10), Digest("b" * 64, 20)
    artifacts = (
        Artifact("metal", "metal", "raw.xz", "disk", "m.raw.xz", digest, inner),
        Artifact("metal4k", "metal", "4k.raw.xz", "disk", "m4k.raw.xz", digest, inner, signed=True),
        Artifact("live-kernel", "metal", "pxe", "kernel", "k", digest),
    )
    return Build(BUILD_ID, "x86_64", "c" * 64, artifacts, datetime(2026, 7, 7, tzinfo=UTC))


def test_meta_json() -> None:
    meta = metadata.meta(_build())
    assert meta["buildid"] == BUILD_ID
    assert meta["images"]["metal"] == {
        "path": "m.raw.xz", "sha256": "a" * 64, "size": 10,
        "uncompressed-sha256": "b" * 64, "uncompressed-size": 20,
    }  # fmt: skip
    assert meta["images"]["live-kernel"] == {"path": "k", "sha256": "a" * 64, "size": 10, "skip-compression": True}


def test_stream_metadata() -> None:
    document = metadata.stream(None, _build(), "https://example.com/builds")
    formats = document["architectures"]["x86_64"]["artifacts"]["metal"]["formats"]
    assert list(formats) == ["4k.raw.xz", "pxe", "raw.xz"]
    assert formats["pxe"] == {
        "kernel": {"location": f"https://example.com/builds/{BUILD_ID}/x86_64/k", "sha256": "a" * 64}
    }
    assert set(formats["4k.raw.xz"]["disk"]) == {"location", "signature", "sha256", "uncompressed-sha256"}


def test_stream_metadata_of_several_architectures() -> None:
    first = metadata.stream(None, _build(), "https://example.com")
    both = metadata.stream(first, replace(_build(), arch="s390x"), "https://example.com")
    assert set(both["architectures"]) == {"x86_64", "s390x"}
    assert both["architectures"]["x86_64"] == first["architectures"]["x86_64"]
    later = metadata.stream(both, replace(_build(), build_id="45.1"), "https://example.com")
    assert set(later["architectures"]) == {"x86_64"}, "the other one is of another build"


def test_builds_json_puts_the_new_build_in_front() -> None:
    older = {"builds": [{"id": "43.1", "arches": ["x86_64"]}, {"id": BUILD_ID, "arches": ["s390x"]}]}
    document = metadata.builds(older, _build())
    assert document["schema-version"] == "1.0.0"
    assert document["builds"] == [
        {"id": BUILD_ID, "arches": ["s390x", "x86_64"]},
        {"id": "43.1", "arches": ["x86_64"]},
    ]


def test_help_needs_no_root() -> None:
    done = subprocess.run([SCRIPTS / "build-release", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--platforms" in done.stdout


@pytest.fixture(scope="module")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny release of three platforms, with its intermediate disks."""
    return _built(tmp_path_factory.mktemp("release"), "--platforms", "metal,qemu,openstack", "--keep-work")


def _built(out: Path, *options: str) -> Path:
    wanted = [*tools.BASE_TOOLS, *tools.GRUB_TOOLS, tools.Tool("xfs_repair", "xfsprogs", "xfsprogs")]
    if missing := tools.missing_tools(wanted):
        pytest.skip(tools.describe_missing(missing))
    if os.geteuid():
        pytest.skip("missing: root, for loop devices and mounts")
    if not Path("/dev/loop-control").exists():
        pytest.skip("missing: loop devices (/dev/loop-control)")
    argv: list[str | Path] = [SCRIPTS / "build-release", out, "--content", "tiny", "--cloud-size", "1G", *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if "cannot find all packages" in done.stderr:
        pytest.skip(f"missing: Debian packages: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return out


def _sha256(data: bytes) -> str:
    return sha256(data).hexdigest()


def _partition(image: Path, name: str, target: Path) -> Path:
    """Copy one partition into a file of its own, for the file system checkers."""
    extent = disk.read_partitions(image, 512)[name]
    with image.open("rb") as source, target.open("wb") as copy:
        source.seek(extent.offset)
        copy.truncate(extent.size)
        for position in range(0, extent.size, disk.MIB):
            if (chunk := source.read(min(disk.MIB, extent.size - position))).strip(b"\0"):
                copy.seek(position)
                copy.write(chunk)
    return target


@pytest.mark.builder
def test_tiny_release_matches_its_metadata(tiny_release: Path) -> None:
    (meta_path,) = tiny_release.glob("builds/*/x86_64/meta.json")
    images = json.loads(meta_path.read_text())["images"]
    assert set(images) == {"metal", "qemu", "openstack"}
    for image in images.values():
        data = (meta_path.parent / image["path"]).read_bytes()
        assert _sha256(data) == image["sha256"]
        assert _sha256(lzma.decompress(data)) == image["uncompressed-sha256"]
    assert sum(image["size"] for image in images.values()) <= 2.5e6


@pytest.mark.builder
def test_tiny_release_has_sound_disks(tiny_release: Path, tmp_path: Path) -> None:
    (work,) = tiny_release.glob("tmp-build-*")
    for name in ("metal", "qemu", "openstack"):
        image = work / f"{name}.raw"
        # sfdisk --verify complains of the backup table, which a grown cloud disk has in the middle.
        subprocess.run(["sfdisk", "--dump", image], check=True, capture_output=True)
        boot = _partition(image, architectures.BOOT, tmp_path / "boot")
        subprocess.run(["e2fsck", "-fn", boot], check=True, capture_output=True)
        root = _partition(image, architectures.ROOT, tmp_path / "root")
        subprocess.run(["xfs_repair", "-n", root], check=True, capture_output=True)
        request = "cat /loader.1/entries/ostree-1-fedora-coreos.conf"
        entry = subprocess.check_output(["debugfs", "-R", request, boot], stderr=subprocess.DEVNULL)
        assert f"ignition.platform.id={name}".encode() in entry


@pytest.mark.builder
def test_tiny_release_has_sound_qcow2_files(tiny_release: Path, tmp_path: Path) -> None:
    for compressed in tiny_release.glob("builds/*/x86_64/*.qcow2.xz"):
        image = tmp_path / compressed.stem
        with lzma.open(compressed) as source, image.open("wb") as target:
            shutil.copyfileobj(source, target)
        subprocess.run(["qemu-img", "check", image], check=True, capture_output=True)
        info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", image]))
        assert info["virtual-size"] == 1 << 30


@pytest.mark.builder
def test_siblings_differ_in_few_sectors(tiny_release: Path) -> None:
    (work,) = tiny_release.glob("tmp-build-*")
    differing = 0
    with (work / "metal.raw").open("rb") as metal, (work / "openstack.raw").open("rb") as openstack:
        while left := metal.read(1 << 20):
            right = openstack.read(len(left))
            if left != right:
                differing += sum(left[at : at + 512] != right[at : at + 512] for at in range(0, len(left), 512))
    assert 10 < differing < 200


@pytest.mark.builder
def test_nothing_stays_attached(tiny_release: Path) -> None:
    attached = subprocess.run(["losetup", "--all"], check=True, capture_output=True, text=True).stdout
    assert str(tiny_release) not in attached
    assert str(tiny_release) not in Path("/proc/mounts").read_text()


@pytest.fixture(scope="module")
def release_of_2021(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny release of 2021; one of its clouds has a larger disk."""
    options = ["--platforms", "metal,qemu,openstack,ibmcloud", "--ibmcloud-size", "3G", "--uncompressed"]
    return _built(tmp_path_factory.mktemp("release-2021"), "--era", "2021", *options)


@pytest.mark.builder
def test_clouds_of_2021_are_edits_of_the_relocated_qemu(release_of_2021: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    fine("build", "dehydrate", release_of_2021, store, "--level", "3", "--progress", "none")
    listed = json.loads(fine("list", "--json", "--store", store).text)["artifacts"]
    found = {item["platform"]: item for item in listed}
    assert {name: item["rung"] for name, item in found.items()} == {
        "metal": "edits", "qemu": "relocated", "openstack": "edits", "ibmcloud": "edits"
    }  # fmt: skip
    for name in ("openstack", "ibmcloud"):
        assert found[name]["literal_bytes"] == 0
        assert found[name]["stored_size"] < 4096
        told = "\n".join(found[name]["changes"])
        assert "told from the disk of qemu.qcow2.disk" in told
        assert f"of platform {name};" in told
    fine("verify", "--store", store)
    bench(release_of_2021, "--store", store, "--only", "literals", "--work", tmp_path, "--json", tmp_path / "json")
    rows = tables(tmp_path / "json")["literals"]["rows"]
    assert {row["artifact"] for row in rows} == {"qemu.qcow2.disk"}
    assert sum(row["bytes"] for row in rows) == found["qemu"]["literal_bytes"]
    document = stores.manifest(store, "qemu.qcow2.disk")
    del document["body"]["prefix"]  # literals refer to metal's metadata
    stores.rewrite(store, "x86_64/manifests/qemu.qcow2.disk.json", document)
    fails(1, ["can't be decompressed"], "rehydrate", tmp_path / "out", "--disk", "openstack", "--store", store)


@pytest.mark.builder
def test_clouds_of_2021_on_s390x_have_a_bootmap_of_their_own(
    need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    need("qemu-s390x-static", root=True)
    options = ["--platforms", "metal,qemu,openstack", "--uncompressed"]
    release = _built(tmp_path_factory.mktemp("s390x-2021"), "--era", "2021", "--arch", "s390x", *options)
    store = tmp_path / "store"
    fine("build", "dehydrate", release, store, "--level", "3", "--progress", "none")
    listed = json.loads(fine("list", "--arch", "s390x", "--json", "--store", store).text)["artifacts"]
    found = {item["platform"]: item for item in listed}
    rungs = {name: item["rung"] for name, item in found.items()}
    assert rungs == {"metal": "edits", "qemu": "relocated", "openstack": "edits"}
    told = "\n".join(found["openstack"]["changes"])
    assert "/bootmap replaced; zipl: parmline = BLS options + ignition.firstboot" in told
    # What the entry for zipl held, which was removed again.
    assert 0 < found["openstack"]["literal_bytes"] <= 1024
    assert f"free space: {found['openstack']['literal_bytes']} literal bytes" in told
    for name in ("metal", "openstack"):
        (image,) = release.glob(f"builds/*/s390x/*-{name}.*")
        fine("check", image)


@pytest.mark.builder
def test_disks_of_2021_have_the_arguments_of_their_time(release_of_2021: Path, tmp_path: Path) -> None:
    (image,) = release_of_2021.glob("builds/*/x86_64/*-ibmcloud.*.qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, tmp_path / "raw"], check=True)
    boot = _partition(tmp_path / "raw", architectures.BOOT, tmp_path / "boot")
    subprocess.run(["e2fsck", "-fn", boot], check=True, capture_output=True)
    request = "cat /loader.1/entries/ostree-1-fedora-coreos.conf"
    entry = subprocess.check_output(["debugfs", "-R", request, boot], stderr=subprocess.DEVNULL, text=True)
    (options,) = (line for line in entry.splitlines() if line.startswith("options "))
    assert options.endswith(" console=tty0 console=ttyS0,115200n8 ignition.platform.id=ibmcloud")
    files = subprocess.check_output(["debugfs", "-R", "ls /grub2", boot], stderr=subprocess.DEVNULL, text=True)
    assert "grub.cfg" in files
    assert "console.cfg" not in files
