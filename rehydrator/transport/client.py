"""One HTTP client for everything that is fetched or sent.

Redirects are followed here and not in the library, because a way that began with TLS must not end without it, and what
authorizes a request is for one server only. The system's certificates are used, or those of ``$SSL_CERT_FILE``, and the
usual proxy variables are respected.

Sources: RFC 9110 (HTTP semantics), https://urllib3.readthedocs.io.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from typing import Self, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, NewConnectionError, SSLError

from rehydrator import __version__
from rehydrator.disk.extents import CHUNK
from rehydrator.errors import FetchError, MismatchError, NotFoundError, TemporaryFetchError, TLSError, UsageError
from rehydrator.progress import Progress

T = TypeVar("T")

_REDIRECTS = 10
_KEPT = 8  # idle connections to one server, for as many threads
_FOLLOWED = frozenset({"GET", "HEAD"})
AUTHORIZATION = "Authorization"
_TEMPORARY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_MISSING = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_PIECE = min(CHUNK, 1 << 20)


class Patience(msgspec.Struct, frozen=True):
    """How long to wait for a server, in seconds, and how often to try again.

    A transfer that brings less than ``floor`` bytes in ``read`` seconds counts as broken. The pause before another
    attempt starts at ``pause`` and doubles, up to a minute.
    """

    connect: float = 15.0
    read: float = 60.0
    floor: int = 64 << 10
    retries: int = 5
    pause: float = 1.0


class Answer:
    """What a server answered: status, headers and, piece by piece, the body."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, patience: Patience) -> None:
        self._response = response
        self._patience = patience
        self.url = url
        self.status = response.status

    def header(self, name: str) -> str:
        """Return a header's value, "" where it is missing."""
        return self._response.headers.get(name, "")

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces of at most 1 MiB.

        Raises TemporaryFetchError where it ends before its announced length, or comes too slowly.
        """
        begun, brought = time.monotonic(), 0
        with _told(self.url):
            while piece := self._response.read1(_PIECE):
                yield piece
                brought += len(piece)
                seconds = time.monotonic() - begun
                if seconds > self._patience.read:
                    if brought < self._patience.floor:
                        raise TemporaryFetchError(
                            "comes too slowly", path=self.url, actual=f"{brought} bytes in {seconds:.0f} s"
                        )
                    begun, brought = time.monotonic(), 0

    def read(self, limit: int) -> bytes:
        """Return the whole body; raises MismatchError where it is larger than ``limit`` bytes."""
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > limit:
                raise MismatchError("is too large", path=self.url, expected=f"at most {limit} bytes")
        return bytes(data)


class Client:
    """Gets documents and files, and sends them; safe to use from several threads.

    :meth:`abort` ends all that is under way. ``tls`` says which certificates are trusted.
    """

    def __init__(self, patience: Patience | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.patience = patience or Patience()
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._proxies = getproxies()
        self._tls = tls or ssl.create_default_context()
        self._lock = threading.Lock()
        self._live: set[urllib3.BaseHTTPResponse] = set()
        self._aborted = False

    def _pool(self, url: str) -> urllib3.PoolManager:
        """Return the connections for a URL: those of a proxy, where one is set for it."""
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.hostname or "") else self._proxies.get(parts.scheme, "")
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = (
                    urllib3.ProxyManager(
                        proxy if "//" in proxy else f"http://{proxy}", ssl_context=self._tls, maxsize=_KEPT
                    )
                    if proxy
                    else urllib3.PoolManager(ssl_context=self._tls, maxsize=_KEPT)
                )
            return self._pools[proxy]

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, accept: Collection[int] = (HTTPStatus.OK,)
    ) -> AbstractContextManager[Answer]:
        """Give the answer to a GET request, as :meth:`send` does."""
        return self.send("GET", url, headers, accept=accept)

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: Collection[int] = (HTTPStatus.OK,),
    ) -> Iterator[Answer]:
        """Give the answer to a request; its status is one of ``accept``. GET and HEAD follow redirects.

        Another server than the first is not told what authorizes the request. Raises FetchError, and
        TemporaryFetchError where another attempt may succeed.
        """
        at, told = url, dict(headers or {})
        for _ in range(_REDIRECTS + 1):
            response = self._request(method, at, told, body)
            with self._lock:
                self._live.add(response)
                aborted = self._aborted
            try:
                if aborted:
                    raise TemporaryFetchError("was given up", path=at)
                target = response.get_redirect_location() if method in _FOLLOWED else None
                if not target:
                    _check_status(response.status, at, accept)
                    yield Answer(response, at, self.patience)
                    return
                at, before = _redirected(at, str(target)), at
                if not same_server(at, before):
                    told.pop(AUTHORIZATION, None)
            finally:
                with self._lock:
                    self._live.discard(response)
                response.close()  # whatever of the body was not read is dropped with its connection
        raise FetchError(f"more than {_REDIRECTS} redirects", path=url, actual=at)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        check_url(url)
        with _told(url):
            return self._pool(url).request(
                method,
                url,
                body=body,
                headers={"User-Agent": f"rehydrator/{__version__}", "Accept-Encoding": "identity", **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self.patience.connect, read=self.patience.read),
            )

    def document(self, url: str, limit: int, progress: Progress) -> bytes:
        """Return a small document of at most ``limit`` bytes, after as many attempts as patience allows."""

        def attempt() -> bytes:
            with self.get(url) as answer:
                return answer.read(limit)

        return persist(attempt, self.patience, progress)

    def abort(self) -> None:
        """Make whatever is under way in other threads fail now, and what begins later."""
        with self._lock:
            self._aborted = True
            for response in self._live:
                # one that has just come to its end, and gave its connection back, can't be shut and need not be
                with contextlib.suppress(RuntimeError, ValueError, OSError):
                    response.shutdown()

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def persist(
    attempt: Callable[[], T], patience: Patience, progress: Progress, *, advanced: Callable[[], bool] = lambda: False
) -> T:
    """Return what ``attempt`` gives; make it again after a TemporaryFetchError, and say so.

    The last error is raised after ``patience.retries`` further attempts in a row that gained nothing, as ``advanced``
    tells.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except TemporaryFetchError as error:
            failures = 1 if advanced() else failures + 1
            progress.check()  # an abort is no failure
            if failures > patience.retries:
                raise
            seconds = min(patience.pause * 2 ** (failures - 1), 60.0)
            progress.say(f"{error}; trying again in {seconds:g} s")
        progress.pause(seconds)


def check_url(url: str) -> None:
    """Raise UsageError for what is not an HTTP(S) address with a host."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError("is no address that can be fetched", actual=repr(url), hint="It begins with https://")


def same_server(a: str, b: str) -> bool:
    """Whether two URLs lead to the same port of the same host, by the same protocol."""
    first, second = urlsplit(a), urlsplit(b)
    return (first.scheme, first.netloc.rpartition("@")[2]) == (second.scheme, second.netloc.rpartition("@")[2])


def _redirected(url: str, target: str) -> str:
    try:
        new = urljoin(url, target)
        check_url(new)
    except (UsageError, ValueError) as error:
        raise FetchError("redirects to what is no address on the web", path=url, actual=repr(target)) from error
    if urlsplit(url).scheme == "https" and urlsplit(new).scheme != "https":
        raise FetchError("redirects from https to http, which anybody may read and change", path=url, actual=new)
    return new


def _check_status(status: int, url: str, accept: Collection[int]) -> None:
    if status in accept:
        return
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown status"
    raise _error_for(status)(f"the server answers {status} {phrase}", path=url)


def _error_for(status: int) -> type[FetchError]:
    if status in _TEMPORARY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TemporaryFetchError
    return NotFoundError if status in _MISSING else FetchError


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except LocationParseError as error:
        raise UsageError("is no address that can be fetched", actual=repr(url)) from error
    except SSLError as error:
        raise TLSError(f"TLS fails: {error}", path=url) from error
    except NewConnectionError as error:
        raise TemporaryFetchError("cannot be reached", path=url, actual=str(error).rpartition(": ")[2]) from error
    except (HTTPError, OSError, ValueError) as error:  # ValueError: reading from a connection that abort() shut
        raise TemporaryFetchError(f"broke off: {error}", path=url) from error
