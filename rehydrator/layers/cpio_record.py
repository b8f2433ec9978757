"""What has to be kept of cpio archives to write them again around the content of their members."""

from __future__ import annotations

import msgspec


class CpioMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """One member; ``mode`` is in octal, with the type of the file. The trailer of an archive is a member as well.

    ``gap`` are the zeros in front of it, beyond those that fill up what came before to four bytes: behind a trailer,
    where another archive begins. ``major``, ``minor`` are the device that the file lay on, ``rmajor``, ``rminor`` those
    of a device file.
    """

    name: str
    mode: str = "0"
    size: int = 0
    ino: int = 0
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    major: int = 0
    minor: int = 0
    rmajor: int = 0
    rminor: int = 0
    check: int = 0
    gap: int = 0


class CpioRecord(msgspec.Struct, tag="cpio", tag_field="layer", frozen=True, omit_defaults=True):
    """The record of one or several archives, one behind the other: their members in order.

    ``rest`` is how many bytes follow that are no such archive, such as compressed ones; zeros in front of it, or up to
    the end of ``file_size`` bytes, are implied. ``magic`` is ``070702`` where members have a sum, ``lower`` tells that
    hexadecimal digits are small letters.
    """

    file_size: int
    members: list[CpioMember]
    rest: int = 0
    magic: str = "070701"
    lower: bool = False
