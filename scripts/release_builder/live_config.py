"""Boot configuration of the live ISO, kept in the tree and filled in when the ISO is made."""

from pathlib import Path

KARGS_MARK = "@@KERNEL-ARGS@@"
EMBED_AREA_END = "# COREOS_KARG_EMBED_AREA"
# The place reserved for kernel arguments, from their first byte to the last pad byte.
EMBED_AREA_PAD = 1100

_ISOLINUX = """serial 0
default vesamenu.c32
timeout 50
menu title CoreOS-like test release
label linux
  menu label ^CoreOS-like test release (Live)
  menu default
  kernel /images/pxeboot/vmlinuz
  append initrd=/images/pxeboot/initrd.img,/images/ignition.img {kargs}
{pad}{mark}
menu separator
"""
_GRUB = """set default="0"
set timeout=5
menuentry 'CoreOS-like test release (Live)' --class fedora --class os {{
  linux /images/pxeboot/vmlinuz {kargs}
{pad}{mark}
  initrd /images/pxeboot/initrd.img /images/ignition.img
}}
"""


_ZIPL = "{kargs} ignition.firstboot ignition.platform.id=metal\n"
_GRUB_PATH = "EFI/fedora/grub.cfg"
_TEMPLATES = {"x86_64": {"isolinux/isolinux.cfg": _ISOLINUX, _GRUB_PATH: _GRUB}, "s390x": {"zipl.prm": _ZIPL}}


def write_live_config(target: Path, architecture: str) -> None:
    """Write an architecture's templates below usr/share/coreos-assembler/live."""
    fields = {"kargs": KARGS_MARK, "pad": "#" * EMBED_AREA_PAD, "mark": EMBED_AREA_END}
    for name, template in _TEMPLATES.get(architecture, {_GRUB_PATH: _GRUB}).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.format(**fields), encoding="utf-8")
