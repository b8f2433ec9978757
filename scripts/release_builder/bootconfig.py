"""The texts in which platforms differ: boot loader entry, console.cfg, platforms.json."""

import json
import re
from dataclasses import dataclass

CONSOLE_START = "# CONSOLE-SETTINGS-START"
CONSOLE_END = "# CONSOLE-SETTINGS-END"

_SERIAL = ("serial --speed=115200", "terminal_input serial console", "terminal_output serial console")
_TTY0_FIRST = ("console=tty0", "console=ttyS0,115200n8")
_SERIAL_FIRST = ("console=ttyS0,115200n8", "console=tty0")


@dataclass(frozen=True)
class Console:
    """What platforms.json says of one platform."""

    grub_commands: tuple[str, ...] = ()
    kernel_arguments: tuple[str, ...] = ()


X86_64_CONSOLES = {
    "applehv": Console(_SERIAL, ("console=tty0", "console=hvc0")),
    "aws": Console(_SERIAL, _TTY0_FIRST),
    "azure": Console((), _TTY0_FIRST),
    "gcp": Console(_SERIAL, _TTY0_FIRST),
    "ibmcloud": Console(_SERIAL, _TTY0_FIRST),
    "kubevirt": Console(_SERIAL, _SERIAL_FIRST),
    "openstack": Console(_SERIAL, _SERIAL_FIRST),
    "packet": Console(
        ("serial --unit=1 --speed=115200", "terminal_input serial", "terminal_output serial"),
        ("console=ttyS1,115200n8",),
    ),
    "qemu": Console(_SERIAL, _TTY0_FIRST),
    "virtualbox": Console(_SERIAL, _SERIAL_FIRST),
    "vmware": Console(_SERIAL, _SERIAL_FIRST),
}
AARCH64_CONSOLES = {
    "aws": Console((), _TTY0_FIRST),
    "azure": Console((), ("console=tty0", "console=ttyAMA0,115200n8")),
    "openstack": Console((), ("console=ttyAMA0,115200n8", "console=tty0")),
    "packet": Console((), ("console=ttyAMA0,115200n8",)),
    "qemu": Console((), ("console=tty0", "console=ttyAMA0,115200n8")),
}
PPC64LE_CONSOLES = {
    "openstack": Console((), ("console=hvc0,115200n8", "console=tty0")),
    "qemu": Console((), ("console=tty0", "console=hvc0")),
}


def platforms_json(consoles: dict[str, Console]) -> str:
    """Return platforms.json of one architecture; a field without entries is left out."""
    document: dict[str, dict[str, list[str]]] = {}
    for platform, console in consoles.items():
        fields = {"grub_commands": list(console.grub_commands), "kernel_arguments": list(console.kernel_arguments)}
        document[platform] = {key: value for key, value in fields.items() if value}
    return json.dumps(document, indent=2) + "\n"


def console_of(text: str, platform: str) -> Console:
    """Find a platform in the text of platforms.json; one that is not listed has no console settings."""
    fields = json.loads(text).get(platform, {})
    return Console(tuple(fields.get("grub_commands", ())), tuple(fields.get("kernel_arguments", ())))


def console_cfg(grub_commands: tuple[str, ...]) -> str:
    """Return a new console.cfg; without commands there is an empty line between the marks."""
    settings = "\n".join(grub_commands)
    return f"\n# Any non-default console settings will be inserted here.\n{CONSOLE_START}\n{settings}\n{CONSOLE_END}\n"


def replace_console_settings(text: str, grub_commands: tuple[str, ...]) -> str:
    """Change what is between the marks of a console.cfg and nothing else."""
    head, rest = text.split(f"{CONSOLE_START}\n", 1)
    _settings, tail = rest.split(CONSOLE_END, 1)
    settings = "\n".join(grub_commands)
    return f"{head}{CONSOLE_START}\n{settings}\n{CONSOLE_END}{tail}"


def entry_field(entry: str, key: str) -> str:
    """Return the first value of a key of a boot loader entry, empty without one."""
    found = re.search(rf"(?m)^{key}\s+(.*?)\s*$", entry)
    return found[1] if found else ""


def append_options(entry: str, arguments: tuple[str, ...]) -> str:
    """Append kernel arguments to the first options line of a boot loader entry."""
    lines = entry.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("options "):
            lines[number] = " ".join((line, *arguments))
            break
    else:
        lines.append(" ".join(("options", *arguments)))
    return "".join(f"{line}\n" for line in lines)


def change_platform(entry: str, platform: str, old: Console, new: Console) -> str:
    """Turn a finished entry of one platform into that of another: the id first, the console after it."""
    entry = re.sub(r" ignition\.platform\.id=[a-zA-Z0-9]*", "", entry)
    lines = []
    for line in entry.splitlines():
        if line.startswith("options "):
            options = f"{line} ignition.platform.id={platform}"
            if old.kernel_arguments:
                options = options.replace(" " + " ".join(old.kernel_arguments), "", 1)
            lines.append(" ".join((options, *new.kernel_arguments)))
        else:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)
