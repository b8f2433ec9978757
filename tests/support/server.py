"""A web server that serves files as it should, or fails as it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Act = Callable[["Handler", bytes], None]


@dataclass
class Site:
    """What a server serves: ``files`` by path, and per path what it does instead at its next requests.

    ``seen`` has the path and the Range header of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    acts: dict[str, list[Act]] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *arguments: object) -> None:
        self.site = site
        super().__init__(*arguments)  # type: ignore[arg-type]  # socketserver passes what its base wants

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.respond()

    def do_HEAD(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.respond()

    def do_PUT(self) -> None:
        self.respond()

    def do_PATCH(self) -> None:
        self.respond()

    def respond(self) -> None:
        """Answer a request of any method as if it was GET."""
        self.site.seen.append((self.path, self.headers.get("Range", "")))
        data = self.site.files.get(self.path)
        acts = self.site.acts.get(self.path)
        try:
            if acts:
                acts.pop(0)(self, data or b"")
            elif data is None:
                self.answer(404)
            else:
                serve(self, data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_CONNECT(self) -> None:
        """Be a proxy: whatever host is asked for, the tunnel leads to the server that the path was mapped to."""
        self.site.seen.append((self.path, ""))
        host, _, port = self.site.files["CONNECT"].decode().partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
            back.start()
            pump(self.connection, there)
            back.join()
        self.close_connection = True

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        """Send a whole answer; a header's name has _ for -."""
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def hang_up(self) -> None:
        """End the connection in the middle."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one side closes."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def tag_of(data: bytes) -> str:
    """The entity tag of a file."""
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def serve(handler: Handler, data: bytes, *, tag: str | None = None) -> None:
    """Serve a file as RFC 9110 says: with ranges, under If-Range."""
    tag = tag_of(data) if tag is None else tag
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if found is None or handler.headers.get("If-Range", tag) != tag:
        handler.answer(200, data, ETag=tag)
    elif int(found[1]) >= len(data):
        handler.answer(416, Content_Range=f"bytes */{len(data)}")
    else:
        at = int(found[1])
        handler.answer(206, data[at:], ETag=tag, Content_Range=f"bytes {at}-{len(data) - 1}/{len(data)}")


def drop(count: int, *, announced: bool = True) -> Act:
    """Send only ``count`` of the bytes that are asked for, then close the connection."""

    def act(handler: Handler, data: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        at = int(found[1]) if found else 0
        handler.send_response(206 if found else 200)
        handler.send_header("ETag", tag_of(data))
        if found:
            handler.send_header("Content-Range", f"bytes {at}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - at)) if announced else handler.send_header(
            "Connection", "close"
        )
        handler.end_headers()
        handler.wfile.write(data[at : at + count])
        handler.wfile.flush()
        handler.hang_up()

    return act


def status(code: int, **headers: str) -> Act:
    """Answer with a status."""
    return lambda handler, _: handler.answer(code, b"", **headers)


def other(data: bytes, code: int = 200, **headers: str) -> Act:
    """Send other bytes."""
    return lambda handler, _: handler.answer(code, data, **headers)


def without_ranges(handler: Handler, data: bytes) -> None:
    """Send the whole file whatever was asked."""
    handler.answer(200, data)


def chunked(cut: int | None = None) -> Act:
    """Send the file in chunks without saying its length; only ``cut`` bytes and no end where that is given."""

    def act(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("ETag", tag_of(data))
        handler.end_headers()
        part = data[:cut]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) + (b"0\r\n\r\n" if cut is None else b""))
        handler.wfile.flush()
        if cut is not None:
            handler.hang_up()

    return act


def endless(handler: Handler, data: bytes) -> None:
    """Send the file again and again, without saying a length."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.site.over.is_set():
        handler.wfile.write(data)
    handler.close_connection = True


def stall(count: int) -> Act:
    """Send ``count`` bytes and then nothing, without closing, until the server is closed."""

    def act(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("ETag", tag_of(data))
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:count])
        handler.wfile.flush()
        handler.site.stalled.set()
        handler.site.over.wait()
        handler.close_connection = True

    return act


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients go away."""


@contextmanager
def serving(site: Site, certificate: Path | None = None) -> Iterator[Site]:
    """Run a server on the loopback interface; with TLS where a certificate with its key is given."""
    server = _Server(("127.0.0.1", 0), partial(Handler, site))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
