"""cdboot.img: kernel, initramfs and kernel parameters in one file, which a machine of s390x starts from a DVD.

Laid out as s390-tools' `netboot/mk-s390image` does, which Debian does not package; the places are those of the kernel's
`arch/s390/include/asm/setup.h`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .tools import BuildError

INITRD_POINTER_AT = 0x10408
PARAMETERS_AT = 0x10480
PARAMETERS_SIZE = 896

_BLOCK = 4096
_POINTER = struct.Struct(">QQ")  # address, size
_ADDRESS_AND_SIZE = struct.Struct(">IIII")
_START_AT = 4
_START = 0x80010000  # of the program status word: where the kernel begins, in 31-bit mode


@dataclass(frozen=True)
class Cdboot:
    """The file, and where the initramfs begins in it."""

    data: bytes
    initrd_at: int


def build(kernel: bytes, initrd: bytes, parameters: str) -> Cdboot:
    """Put the three together. Raises BuildError for a kernel or parameters of a size that does not fit."""
    text = parameters.strip().encode()
    if len(text) >= PARAMETERS_SIZE or len(kernel) < PARAMETERS_AT + PARAMETERS_SIZE:
        raise BuildError(f"a kernel of {len(kernel)} bytes has no room for {len(text)} bytes of parameters")
    at = -(-len(kernel) // _BLOCK) * _BLOCK
    made = bytearray(kernel.ljust(at, b"\0") + initrd)
    struct.pack_into(">I", made, _START_AT, _START)
    _POINTER.pack_into(made, INITRD_POINTER_AT, at, len(initrd))
    made[PARAMETERS_AT : PARAMETERS_AT + PARAMETERS_SIZE] = text.ljust(PARAMETERS_SIZE, b"\0")
    return Cdboot(bytes(made), at)


def address_and_size(address: int, size: int) -> bytes:
    """Return the content of `initrd.addrsize`."""
    return _ADDRESS_AND_SIZE.pack(0, address, 0, size)
