"""OVA: a ustar archive of an OVF description and a stream-optimized VMDK."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from .tools import Runner

_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
_VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
_DISK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_SYSTEM_TYPES = {"vmware": "vmx-17", "virtualbox": "virtualbox-2.2"}
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


def ovf_text(machine: Machine, vmdk_size: int, capacity: int) -> str:
    """Return the OVF envelope."""
    for prefix, uri in (("ovf", _OVF), ("rasd", _RASD), ("vssd", _VSSD)):
        ET.register_namespace(prefix, uri)
    envelope = ET.Element(f"{{{_OVF}}}Envelope")
    references = _child(envelope, "References")
    _child(references, "File", href="disk.vmdk", id="file1", size=str(vmdk_size))
    disks = _child(envelope, "DiskSection")
    _child(disks, "Info", "Virtual disk information")
    _child(disks, "Disk", capacity=str(capacity), capacityAllocationUnits="byte", diskId="vmdisk1", fileRef="file1",
           format=_DISK_FORMAT, populatedSize=str(vmdk_size))  # fmt: skip
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
    """Pack the description and the disk, which is consumed."""
    directory = vmdk.parent / "ova"
    directory.mkdir()
    disk = vmdk.rename(directory / "disk.vmdk")
    (directory / "coreos.ovf").write_text(ovf_text(machine, disk.stat().st_size, capacity), encoding="utf-8")
    runner.run("tar", "--owner=0", "--group=0", "-C", directory, "-ch", "--format=ustar", "-f", target, "coreos.ovf",
               "disk.vmdk")  # fmt: skip
