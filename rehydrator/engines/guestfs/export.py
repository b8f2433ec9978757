"""A disk in memory, offered to one virtual machine through a socket: reads from a source, writes to an overlay.

The machine sees a writable disk. What it writes stays in the overlay, sector by sector, so the source is never changed
and what was touched is known exactly. No image file is made.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from rehydrator.disk.overlay import Overlay
from rehydrator.disk.source import BytesSource, Padded, Source
from rehydrator.engines.guestfs.c_nbd import (
    EXPORT_PADDING,
    IHAVEOPT,
    NBDMAGIC,
    OPTION_REPLY_MAGIC,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    ClientFlags,
    Command,
    Error,
    ExportInfo,
    HandshakeFlag,
    Option,
    OptionHeader,
    OptionReply,
    OptionReplyHeader,
    Request,
    ServerGreeting,
    SimpleReply,
    TransmissionFlag,
)
from rehydrator.errors import RehydratorError

MAX_REQUEST = 32 << 20  # qemu sends at most that much at once
_MAX_OPTION = 4 << 10


class _HangupError(Exception):
    """The client went away, or speaks something else."""


class Export:
    """A drive of ``size`` bytes at the Unix socket ``path``. It holds zeros until a disk is inserted.

    ``error`` is what reading the disk raised, if anything: the client only hears that a read failed.
    """

    def __init__(self, size: int, path: Path) -> None:
        self.size = size
        self.path = path
        self.error: RehydratorError | None = None
        self._disk = Overlay(Padded(BytesSource(b""), size))
        self._listener = socket.socket(socket.AF_UNIX)
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="nbd", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()

    def insert(self, disk: Source) -> Overlay:
        """Serve ``disk`` from now on, followed by zeros; return the overlay that takes what the client writes."""
        self._disk = Overlay(Padded(disk, self.size))
        return self._disk

    def close(self) -> None:
        """Hang up and remove the socket."""
        for held in (self._listener, self._client):
            if held is not None:
                with _quiet():
                    held.shutdown(socket.SHUT_RDWR)
                held.close()
        if self._thread.is_alive():
            self._thread.join()
        self.path.unlink(missing_ok=True)

    def _serve(self) -> None:
        """Serve one client after another: qemu opens a disk twice while it starts."""
        while True:
            try:
                self._client, _address = self._listener.accept()
            except OSError:  # closed
                return
            with self._client as client, _quiet():
                if self._negotiate(client):
                    while self._answer(client):
                        pass

    def _negotiate(self, client: socket.socket) -> bool:
        """Agree on the export; tell whether the client goes on to transmission."""
        flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        client.sendall(ServerGreeting(nbdmagic=NBDMAGIC, ihaveopt=IHAVEOPT, handshake_flags=flags).pack())
        wanted = ClientFlags.parse(_receive(client, ClientFlags.SIZE)).flags
        while True:
            header = OptionHeader.parse(_receive(client, OptionHeader.SIZE))
            if header.ihaveopt != IHAVEOPT or header.length > _MAX_OPTION:
                raise _HangupError
            _receive(client, header.length)
            if header.option == Option.EXPORT_NAME:
                break
            reply = OptionReply.ACK if header.option == Option.ABORT else OptionReply.ERR_UNSUP
            answer = OptionReplyHeader(magic=OPTION_REPLY_MAGIC, option=header.option, reply_type=reply, length=0)
            client.sendall(answer.pack())
            if reply is OptionReply.ACK:
                return False
        can = TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH
        padding = 0 if wanted & HandshakeFlag.NO_ZEROES else EXPORT_PADDING
        client.sendall(ExportInfo(size=self.size, transmission_flags=can).pack() + bytes(padding))
        return True

    def _answer(self, client: socket.socket) -> bool:
        """Answer one request; tell whether more may come."""
        request = Request.parse(_receive(client, Request.SIZE))
        if request.magic != REQUEST_MAGIC or request.length > MAX_REQUEST:
            raise _HangupError
        data = b""
        error = Error.NONE
        inside = request.offset + request.length <= self.size
        match request.type:
            case Command.DISC:
                return False
            case Command.READ:
                error, data = self._read(request) if inside else (Error.EINVAL, b"")
            case Command.WRITE:
                content = _receive(client, request.length)
                if inside:
                    self._disk.write(request.offset, content)
                else:
                    error = Error.EINVAL
            case Command.FLUSH:
                pass
            case _:
                error = Error.EINVAL
        client.sendall(SimpleReply(magic=SIMPLE_REPLY_MAGIC, error=error, cookie=request.cookie).pack() + data)
        return True

    def _read(self, request: Request) -> tuple[Error, bytes]:
        try:
            return Error.NONE, bytes(self._disk.read(request.offset, request.length))
        except RehydratorError as error:
            self.error = self.error or error
            return Error.EIO, b""


def _receive(client: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = client.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise _HangupError
        data += piece
    return bytes(data)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """End quietly when the connection does."""
    try:
        yield
    except (OSError, _HangupError):
        return
