"""Structures of the NBD protocol.

Source: the protocol text of the nbd project, doc/proto.md: "Fixed newstyle negotiation" and "Transmission". All
numbers are big-endian.
"""

from __future__ import annotations

import enum

from rehydrator.binary import Structure, field

NBDMAGIC = b"NBDMAGIC"
IHAVEOPT = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
EXPORT_PADDING = 124  # zeros behind an export's flags, unless the client said NO_ZEROES


class HandshakeFlag(enum.IntFlag):
    """Bits of the handshake flags, the same in both directions."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(enum.IntEnum):
    """Values of ``OptionHeader.option``."""

    EXPORT_NAME = 1
    ABORT = 2


class OptionReply(enum.IntEnum):
    """Values of ``OptionReplyHeader.reply_type``; errors have the highest bit set."""

    ACK = 1
    ERR_UNSUP = (1 << 31) + 1


class TransmissionFlag(enum.IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1
    SEND_FLUSH = 4


class Command(enum.IntEnum):
    """Values of ``Request.type``."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3


class Error(enum.IntEnum):
    """Values of ``SimpleReply.error``."""

    NONE = 0
    EIO = 5
    EINVAL = 22


class ServerGreeting(Structure, byteorder=">"):
    """What the server says first."""

    nbdmagic: bytes = field("8s")
    ihaveopt: bytes = field("8s")
    handshake_flags: int = field("H")


class ClientFlags(Structure, byteorder=">"):
    """The client's answer to the greeting."""

    flags: int = field("I")


class OptionHeader(Structure, byteorder=">"):
    """Before the data of an option."""

    ihaveopt: bytes = field("8s")
    option: int = field("I")
    length: int = field("I")


class OptionReplyHeader(Structure, byteorder=">"):
    """The server's answer to an option other than EXPORT_NAME."""

    magic: int = field("Q")
    option: int = field("I")
    reply_type: int = field("I")
    length: int = field("I")


class ExportInfo(Structure, byteorder=">"):
    """The server's answer to EXPORT_NAME."""

    size: int = field("Q")
    transmission_flags: int = field("H")


class Request(Structure, byteorder=">"):
    """Before the data of a write; the whole of every other request."""

    magic: int = field("I")
    command_flags: int = field("H")
    type: int = field("H")
    cookie: int = field("Q")
    offset: int = field("Q")
    length: int = field("I")


class SimpleReply(Structure, byteorder=">"):
    """Before the data of a read; the whole of every other reply."""

    magic: int = field("I")
    error: int = field("I")
    cookie: int = field("Q")
