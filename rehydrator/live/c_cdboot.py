"""Where the kernel of s390x is told its initramfs and its parameters, in a file that begins with the kernel.

Source: Linux, ``arch/s390/include/asm/setup.h`` (``struct parmarea``); s390-tools' ``netboot/mk-s390image`` fills it.
Numbers are big-endian.
"""

from __future__ import annotations

from rehydrator.binary import Structure, field

CDBOOT = "/IMAGES/CDBOOT.IMG"
PARMAREA_AT = 0x10400


class Parmarea(Structure, byteorder=">"):
    """``struct parmarea``, up to ``command_line``."""

    ipl_device: int = field("Q")
    initrd_start: int = field("Q")
    initrd_size: int = field("Q")
    oldmem_base: int = field("Q")
    oldmem_size: int = field("Q")
    kernel_version: int = field("Q")
    max_command_line_size: int = field("Q")
    kaslr_enabled: int = field("Q")
    reserved: bytes = field("64s")


COMMAND_LINE = PARMAREA_AT + Parmarea.SIZE
COMMAND_LINE_SIZE = 896
