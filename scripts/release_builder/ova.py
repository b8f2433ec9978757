"""OVA: a tar archive of an OVF description and a disk."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from .tools import Runner

_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
_VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
_DISK_FORMATS = {
    ".vmdk": "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
    ".raw": "http://www.gnome.org/",
}
_SYSTEM_TYPES = {"vmware": "vmx-17", "virtualbox": "virtualbox-2.2", "powervs": "IBM:POWER:AIXLINUX"}
_RESOURCE_CPU, _RESOURCE_MEMORY, _RESOURCE_DISK = "3", "4", "17"


@dataclass(frozen=True)
class Machine:
    """The virtual machine that the OVF describes."""

    platform: str
    version: str


def _child(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    qualified = {f"{{{_OVF}}}{key}": value for key, value in attributes.items()}
    element = ET.SubElement(parent, f"{{{_OVF}}}{tag}", qualified)
    element.text = text or None
    return element


def _item(hardware: ET.Element, fields: dict[str, str]) -> None:
    item = _child(hardware, "Item")
    for tag, text in fields.items():
        ET.SubElement(item, f"{{{_RASD}}}{tag}").text = text


def ovf_text(machine: Machine, disk: str, size: int, capacity: int) -> str:
    """Return the OVF envelope for a disk file of this name and size."""
    for prefix, uri in (("ovf", _OVF), ("rasd", _RASD), ("vssd", _VSSD)):
        ET.register_namespace(prefix, uri)
    envelope = ET.Element(f"{{{_OVF}}}Envelope")
    references = _child(envelope, "References")
    _child(references, "File", href=disk, id="file1", size=str(size))
    disks = _child(envelope, "DiskSection")
    _child(disks, "Info", "Virtual disk information")
    _child(disks, "Disk", capacity=str(capacity), capacityAllocationUnits="byte", diskId="vmdisk1", fileRef="file1",
           format=_DISK_FORMATS[Path(disk).suffix], populatedSize=str(size))  # fmt: skip
    networks = _child(envelope, "NetworkSection")
    _child(networks, "Info", "The list of logical networks")
    _child(networks, "Network", name="VM Network")
    system = _child(envelope, "VirtualSystem", id="image")
    _child(system, "Info", "A virtual machine")
    _child(system, "Name", "CoreOS-like test release")
    hardware = _child(system, "VirtualHardwareSection")
    _child(hardware, "Info", "Virtual hardware requirements")
    description = _child(hardware, "System")
    ET.SubElement(description, f"{{{_VSSD}}}VirtualSystemType").text = _SYSTEM_TYPES[machine.platform]
    _item(hardware, {"InstanceID": "1", "ResourceType": _RESOURCE_CPU, "VirtualQuantity": "2"})
    _item(hardware, {"InstanceID": "2", "ResourceType": _RESOURCE_MEMORY, "VirtualQuantity": "4096"})
    _item(hardware, {"InstanceID": "4", "HostResource": "ovf:/disk/vmdisk1", "ResourceType": _RESOURCE_DISK})
    product = _child(system, "ProductSection")
    _child(product, "Info", "Information about the installed software")
    _child(product, "Product", "fedora-coreos")
    _child(product, "Version", machine.version)
    ET.indent(envelope)
    return '<?xml version="1.0"?>\n' + ET.tostring(envelope, encoding="unicode") + "\n"


def make_ova(runner: Runner, machine: Machine, vmdk: Path, capacity: int, target: Path) -> None:
    """Pack the description and the stream-optimized VMDK, which is consumed."""
    directory = _lay_out(machine, vmdk, capacity)
    runner.run("tar", "--owner=0", "--group=0", "-C", directory, "-ch", "--format=ustar", "-f", target, "coreos.ovf",
               "disk.vmdk")  # fmt: skip


def make_powervs(runner: Runner, machine: Machine, disk: Path, target: Path) -> None:
    """Pack the description and the raw disk, which is consumed, with its holes; gzip keeps the archive's name."""
    directory = _lay_out(machine, disk, disk.stat().st_size)
    archive = target.with_suffix("")
    runner.run("tar", "-Sch", "--owner=0", "--group=0", "-C", directory, "-f", archive, "coreos.ovf", "disk.raw")
    runner.run("gzip", "-6c", archive, stdout=target)
    archive.unlink()


def _lay_out(machine: Machine, disk: Path, capacity: int) -> Path:
    directory = disk.parent / "ova"
    directory.mkdir()
    member = disk.rename(directory / f"disk{disk.suffix}")
    text = ovf_text(machine, member.name, member.stat().st_size, capacity)
    (directory / "coreos.ovf").write_text(text, encoding="utf-8")
    return directory
