"""A registry that lives in this process and fails as it is told to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from http.server import ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from tests.support.server import Act, Handler, Site, tag_of

# user "reader", password "secret", by crypt(3)
HTPASSWD = "reader:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


@dataclass
class Small(Site):
    """A registry in memory. ``acts`` are by method and path without the host; ``*`` ends a path that begins so.

    ``uploads`` are what came of blobs so far, by the number of the upload; ``sent`` counts the bytes of all bodies that
    were sent, ``calls`` has the method and path of each request.
    """

    uploads: dict[str, bytearray] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    sent: int = 0
    token: str = ""  # that has to be shown, where there is one
    realm: str = ""  # where it is to be had

    def act_for(self, method: str, path: str) -> Act | None:
        """Take the next thing to do instead, if there is one."""
        for key, acts in self.acts.items():
            begins = key.endswith("*") and f"{method} {path}".startswith(key[:-1])
            if acts and (begins or key == f"{method} {path}"):
                return acts.pop(0)
        return None


class _Handler(Handler):
    site: Small

    def respond(self) -> None:
        path = urlsplit(self.path).path
        self.site.calls.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length", "0"))
        act = self.site.act_for(self.command, path)
        try:
            if self.site.token and self.headers.get("Authorization") != f"Bearer {self.site.token}":
                self.rfile.read(length)
                challenge = f'Bearer realm="{self.site.realm}",service="small",scope="repository:r:pull,push"'
                self.answer(401, b"{}", WWW_Authenticate=challenge)
            elif act is not None:
                act(self, self.site.files.get(path, b""))
            else:
                self._serve(path, self.rfile.read(length))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        """Send an answer; HEAD gets no body."""
        self.site.sent += len(data)
        if self.command != "HEAD":
            super().answer(status, data, **headers)
            return
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _serve(self, path: str, body: bytes) -> None:
        match self.command:
            case "GET" | "HEAD" if path not in self.site.uploads:
                self._blob(path)
            case "GET":
                self.answer(204, Location=path, Range=f"0-{max(len(self.site.uploads[path]) - 1, 0)}")
            case "POST":
                location = f"{path}{len(self.site.calls)}"
                self.site.uploads[location] = bytearray()
                self.answer(202, Location=location)
            case "PATCH" if path in self.site.uploads:
                self._take(path, body)
            case "PUT":
                self._finish(path, body)
            case _:
                self.answer(404)

    def _blob(self, path: str) -> None:
        data = self.site.files.get(path)
        if data is None:
            self.answer(404)
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        kind = "application/vnd.oci.image.manifest.v1+json" if "/manifests/" in path else "application/octet-stream"
        if found is None:
            self.answer(200, data, Content_Type=kind, ETag=tag_of(data))
            return
        first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        self.answer(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}", ETag=tag_of(data))

    def _take(self, path: str, body: bytes) -> None:
        first = int(self.headers["Content-Range"].partition("-")[0])
        if first != len(self.site.uploads[path]):
            self.answer(416, Range=f"0-{max(len(self.site.uploads[path]) - 1, 0)}", Location=path)
            return
        self.site.uploads[path] += body
        self.answer(202, Location=path, Range=f"0-{len(self.site.uploads[path]) - 1}")

    def _finish(self, path: str, body: bytes) -> None:
        if "/manifests/" in path:
            digest = f"sha256:{sha256(body).hexdigest()}"
            self.site.files[path] = body
            self.site.files[f"{path.rpartition('/')[0]}/{digest}"] = body
            self.answer(201, Docker_Content_Digest=digest)
            return
        if path not in self.site.uploads:
            self.answer(404)
            return
        data = bytes(self.site.uploads.pop(path)) + body
        (digest,) = parse_qs(urlsplit(self.path).query)["digest"]
        if digest != f"sha256:{sha256(data).hexdigest()}":
            self.answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "digest is not the content\'s"}]}')
            return
        self.site.files[f"{path.partition('/uploads/')[0]}/{digest}"] = data
        self.answer(201)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients go away."""


@contextmanager
def serving_registry(site: Small) -> Iterator[Small]:
    """Run the registry in memory on the loopback interface."""
    server = _Server(("127.0.0.1", 0), partial(_Handler, site))
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def swallow(count: int) -> Act:
    """Take ``count`` bytes of what is sent, keep them, and hang up."""

    def act(handler: Handler, _: bytes) -> None:
        assert isinstance(handler, _Handler)
        handler.site.uploads[urlsplit(handler.path).path] += handler.rfile.read(count)
        handler.hang_up()

    return act


def forget(handler: Handler, _: bytes) -> None:
    """Take what is sent and forget the upload."""
    assert isinstance(handler, _Handler)
    handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
    handler.site.uploads.clear()
    handler.answer(404)


def refuse(code: int, data: bytes = b"") -> Act:
    """Take what is sent and answer with a status."""

    def act(handler: Handler, _: bytes) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        handler.answer(code, data)

    return act
