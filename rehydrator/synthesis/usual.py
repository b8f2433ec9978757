"""Which format CoreOS has for a platform, and what today's tools write around a disk.

Source: ``src/osbuild-manifests/platform.*.ipp.yaml`` and ``src/cosalib/ova.py`` of coreos-assembler, and what
``qemu-img`` 7.2, GNU tar 1.34 and osbuild's ``org.osbuild.oci-archive`` write for them. What follows from the disk or
from its file's name is left empty: see :mod:`rehydrator.synthesis.wrapping`.
"""

from __future__ import annotations

from collections.abc import Callable

from rehydrator.errors import UsageError
from rehydrator.layers.c_gzip import XFL_SLOWEST
from rehydrator.layers.gzip_record import GzipRecord
from rehydrator.layers.qcow2_record import Qcow2Record
from rehydrator.layers.table import LayerRecord
from rehydrator.layers.tar_oci import BLOBS
from rehydrator.layers.tar_record import OciImage, OciRole, TarMember, TarRecord
from rehydrator.layers.vhd_record import VhdRecord
from rehydrator.layers.vhdx_record import VhdxHeader, VhdxRecord
from rehydrator.layers.vmdk_record import VmdkRecord
from rehydrator.layers.zip_record import ZipRecord

NAME = "{name}"  # stands for the name of the file, without suffix
RAW = "raw"
_QCOW2 = "qcow2"
_PLATFORMS = {
    "applehv": RAW,
    "aws": "vmdk",
    "azure": "vhd",
    "azurestack": "vhd",
    "gcp": "tar.gz",
    "hetzner": RAW,
    "hyperv": "vhdx",
    "kubevirt": "ociarchive",
    "metal": RAW,
    "powervs": "ova.gz",
    "virtualbox": "ova",
    "vmware": "ova",
    "vultr": RAW,
}
_VMDK_DESCRIPTOR = f"""\
# Disk DescriptorFile
version=1
CID=00000000
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW 0 SPARSE "{NAME}.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "6"
ddb.geometry.cylinders = "0"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.adapterType = "lsilogic"
ddb.toolsVersion = "2147483647"
"""
_OVF = """\
<?xml version="1.0" encoding="UTF-8"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <ovf:References>
    <ovf:File ovf:href="{disk}" ovf:id="file1" ovf:size="0"/>
  </ovf:References>
  <ovf:DiskSection>
    <ovf:Info>Virtual disk information</ovf:Info>
    <ovf:Disk ovf:capacity="0" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1"
     ovf:format="{format}" ovf:populatedSize="0"/>
  </ovf:DiskSection>
  <ovf:NetworkSection>
    <ovf:Info>The list of logical networks</ovf:Info>
    <ovf:Network ovf:name="VM Network"/>
  </ovf:NetworkSection>
  <ovf:VirtualSystem ovf:id="image">
    <ovf:Info>A virtual machine</ovf:Info>
    <ovf:Name>{name}</ovf:Name>
    <ovf:VirtualHardwareSection>
      <ovf:Info>Virtual hardware requirements</ovf:Info>
      <ovf:System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>{system}</vssd:VirtualSystemType>
      </ovf:System>
      <ovf:Item>
        <rasd:ElementName>2 virtual CPUs</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>2</rasd:VirtualQuantity>
      </ovf:Item>
      <ovf:Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:ElementName>4096 MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>4096</rasd:VirtualQuantity>
      </ovf:Item>
      <ovf:Item>
        <rasd:Address>0</rasd:Address>
        <rasd:ElementName>SCSI controller</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>{controller}</rasd:ResourceSubType>
        <rasd:ResourceType>6</rasd:ResourceType>
      </ovf:Item>
      <ovf:Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>disk</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </ovf:Item>
      <ovf:Item>
        <rasd:AddressOnParent>7</rasd:AddressOnParent>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>VM Network</rasd:Connection>
        <rasd:ElementName>network adapter</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>{adapter}</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </ovf:Item>
    </ovf:VirtualHardwareSection>
  </ovf:VirtualSystem>
</ovf:Envelope>
"""
_VMDK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_RAW_FORMAT = "http://www.gnome.org/"  # what PowerVS calls a raw disk


def _descriptor() -> VmdkRecord:
    return VmdkRecord(descriptor=_VMDK_DESCRIPTOR.split("\n"), deflate="zlib-6")


def _ovf(disk: str, form: str, system: str, controller: str, adapter: str) -> TarMember:
    text = _OVF.format(disk=disk, format=form, name=NAME, system=system, controller=controller, adapter=adapter)
    return TarMember("coreos.ovf", 0, text=text.split("\n"))


def _ova() -> list[LayerRecord]:
    ovf = _ovf("disk.vmdk", _VMDK_FORMAT, "vmx-17", "VirtualSCSI", "VmxNet3")
    return [TarRecord([ovf, TarMember("disk.vmdk", 0)], disk=1, style="ustar"), _descriptor()]


def _ova_gz() -> list[LayerRecord]:
    ovf = _ovf("disk.raw", _RAW_FORMAT, "IBM:POWER:AIXLINUX", "5", "6")
    disk = TarMember("disk.raw", 0, type="S", sparse="nonzero")
    return [GzipRecord(0, "gzip-6", name=f"{NAME}.ova", mtime=1), TarRecord([ovf, disk], disk=1)]


def _ociarchive() -> list[LayerRecord]:
    def member(name: str, role: OciRole) -> TarMember:
        return TarMember(name, 0, uname="", gname="", oci=role)

    members = [
        TarMember("blobs/", 0, type="5", mode="0755", uname="", gname=""),
        TarMember(BLOBS, 0, type="5", mode="0755", uname="", gname=""),
        member(BLOBS, "layer"),
        member(BLOBS, "config"),
        member(BLOBS, "manifest"),
        member("index.json", "index"),
        member("oci-layout", "layout"),
    ]
    inner = TarRecord(
        [TarMember("disk/", 0, type="5", mode="0755"), TarMember(f"disk/{NAME}.qcow2", 0)], disk=1, style="ustar"
    )
    outer = TarRecord(members, disk=2, style="ustar", oci=OciImage("", 0, "", ""))
    return [outer, GzipRecord(0, "gzip-6", name="layer.tar", mtime=1), inner, Qcow2Record(0, 0)]


def _vhdx() -> list[LayerRecord]:
    unset = VhdxHeader(0, "", "")
    return [VhdxRecord(creator="rehydrator", headers=(unset, unset), virtual_disk_id="")]


def _tar() -> list[LayerRecord]:
    return [TarRecord([TarMember("disk.raw", 0, type="S", sparse="nonzero")])]  # what gcp expects


def _tar_gz() -> list[LayerRecord]:
    return [GzipRecord(0, "gzip-9", xfl=XFL_SLOWEST), *_tar()]


def _vhdx_zip() -> list[LayerRecord]:
    return [ZipRecord(0, f"{NAME}.vhdx", 0, "1980-01-01 00:00:00", deflate="gzip-9"), *_vhdx()]


_FORMATS: dict[str, Callable[[], list[LayerRecord]]] = {
    RAW: list,
    _QCOW2: lambda: [Qcow2Record(0, 0)],
    "vmdk": lambda: [_descriptor()],
    "vhd": lambda: [VhdRecord(0, "")],
    "vhdx": _vhdx,
    "vhdx.zip": _vhdx_zip,
    "tar": _tar,
    "tar.gz": _tar_gz,
    "ova": _ova,
    "ova.gz": _ova_gz,
    "ociarchive": _ociarchive,
}
FORMATS = tuple(_FORMATS)


def usual_format(platform: str) -> str:
    """Return the format in which CoreOS ships a platform, that of most platforms for an unknown one."""
    return _PLATFORMS.get(platform, _QCOW2)


def usual_records(format_name: str) -> tuple[LayerRecord, ...]:
    """Return the records of a format, outermost first. Raises UsageError for an unknown format."""
    if format_name not in _FORMATS:
        raise UsageError("unknown format", expected=", ".join(FORMATS), actual=format_name)
    return tuple(_FORMATS[format_name]())
