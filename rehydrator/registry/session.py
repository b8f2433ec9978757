"""Requests to one repository of a registry, authorized in the way that it asks for.

Source: OCI distribution specification 1.1; https://distribution.github.io/distribution/spec/auth/token/ and
``.../auth/oauth/`` for bearer tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

import msgspec

from rehydrator import __version__
from rehydrator.errors import FetchError, TLSError, UsageError
from rehydrator.oci.reference import RegistryReference
from rehydrator.registry.access import Access
from rehydrator.registry.challenge import BASIC, BEARER, Challenge, parse_challenges
from rehydrator.registry.credentials import Credentials, credentials_for
from rehydrator.transport.client import AUTHORIZATION, Answer, Client, Patience, check_url, same_server

_MAX_TOKEN = 1 << 20
_MAX_REFUSAL = 1 << 16
_TLS_HINT = "--ca names a certificate to trust; --plain-http is for registries on this machine that have no TLS"


class _Token(msgspec.Struct, frozen=True):
    """What a token server answers; some have one name for it, some the other."""

    token: str = ""
    access_token: str = ""


class Session:
    """Sends requests; safe to use from several threads.

    A request that the registry refuses with 401 is made once more, with what its challenge asks for; the same is sent
    along from then on, to this registry alone.
    """

    def __init__(self, reference: RegistryReference, access: Access, patience: Patience | None = None) -> None:
        self._reference = reference
        self._server = access.base_url(reference.host)
        self._client = Client(patience, access.tls())
        self._authorization = ""
        self._lock = threading.Lock()

    @property
    def patience(self) -> Patience:
        """How long to wait, and how often to try again."""
        return self._client.patience

    def url(self, rest: str) -> str:
        """Return an address within the repository."""
        return f"{self._server}/v2/{self._reference.repository}/{rest}"

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str] | None = None, accept: Collection[int] = (HTTPStatus.OK,)
    ) -> Iterator[Answer]:
        """Give the answer to a GET request."""
        with self.send("GET", url, headers, accept=accept) as answer:
            yield answer

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: Collection[int] = (HTTPStatus.OK,),
    ) -> Iterator[Answer]:
        """Give the answer to a request; its status is one of ``accept``. Raises FetchError as a client does."""
        accepted = {*accept, HTTPStatus.UNAUTHORIZED}
        used = self._authorization
        with _hinted(), self._client.send(method, url, self._with(used, url, headers), body, accepted) as answer:
            if answer.status != HTTPStatus.UNAUTHORIZED:
                yield answer
                return
            answer.read(_MAX_REFUSAL)
            challenges = parse_challenges(answer.header("WWW-Authenticate"))
            refused_at = answer.url
        if not same_server(refused_at, self._server):
            raise FetchError("refuses access", path=refused_at, actual="401 from another server than the registry")
        renewed = self._authorize(challenges, used)
        with self._client.send(method, url, self._with(renewed, url, headers), body, accepted) as answer:
            if answer.status == HTTPStatus.UNAUTHORIZED:
                raise self.refused("the credentials are wrong or give no access" if renewed else "")
            yield answer

    def _with(self, authorization: str, url: str, headers: Mapping[str, str] | None) -> dict[str, str]:
        told = dict(headers or {})
        if authorization and same_server(url, self._server):
            told[AUTHORIZATION] = authorization
        return told

    def refused(self, why: str = "") -> FetchError:
        """Return the error for a registry that does not let us in."""
        return FetchError(
            f"the registry refuses access{f': {why}' if why else ''}",
            path=str(self._reference),
            hint="Log in with 'podman login' or 'skopeo login'; $REGISTRY_AUTH_FILE names another file of credentials",
        )

    def _authorize(self, challenges: list[Challenge], used: str) -> str:
        """Return what to send along, after one thread has found it out for all."""
        with self._lock:
            if self._authorization == used:
                self._authorization = self._answer(challenges)
            return self._authorization

    def _answer(self, challenges: list[Challenge]) -> str:
        """Return what answers a challenge: a bearer token rather than a password."""
        credentials = credentials_for(self._reference.host, self._reference.repository)
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        if BEARER in by_scheme:
            return f"Bearer {self._token(by_scheme[BEARER], credentials)}"
        if BASIC in by_scheme and credentials.user:
            return credentials.basic
        why = "it asks for credentials, and there are none" if BASIC in by_scheme else "it asks for an unknown proof"
        raise self.refused(why)

    def _token(self, challenge: Challenge, credentials: Credentials) -> str:
        """Ask the token server that a challenge names."""
        realm = challenge.parameters.get("realm", "")
        try:
            check_url(realm)
        except UsageError as error:
            raise self.refused("the server for tokens that it names has no address") from error
        if urlsplit(self._server).scheme == "https" and urlsplit(realm).scheme != "https":
            raise self.refused("the server for tokens that it names is not reached by TLS")
        asked = {name: challenge.parameters[name] for name in ("service", "scope") if name in challenge.parameters}
        with self._ask_for_token(realm, asked, credentials) as answer:
            if answer.status != HTTPStatus.OK:
                why = "the credentials are wrong" if credentials else "it gives no token without credentials"
                raise self.refused(why)
            return _read_token(answer)

    def _ask_for_token(
        self, realm: str, asked: dict[str, str], credentials: Credentials
    ) -> AbstractContextManager[Answer]:
        accept = (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST)
        if credentials.identity_token:
            form = asked | {
                "grant_type": "refresh_token",
                "client_id": f"rehydrator-{__version__}",
                "refresh_token": credentials.identity_token,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._client.send("POST", realm, headers, urlencode(form).encode(), accept)
        separator = "&" if urlsplit(realm).query else "?"
        headers = {AUTHORIZATION: credentials.basic} if credentials.user else {}
        return self._client.get(f"{realm}{separator}{urlencode(asked)}", headers, accept)

    def abort(self) -> None:
        """Make whatever is under way in other threads fail now."""
        self._client.abort()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


@contextmanager
def _hinted() -> Iterator[None]:
    """Tell with which options another certificate, or none, would do."""
    try:
        yield
    except TLSError as error:
        error.hint = _TLS_HINT
        raise


def _read_token(answer: Answer) -> str:
    try:
        found = msgspec.json.decode(answer.read(_MAX_TOKEN), type=_Token)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FetchError("gives no token that can be read", path=answer.url) from error
    text = found.token or found.access_token
    if not text or not text.isascii() or not text.isprintable():
        raise FetchError("gives no token that can be used", path=answer.url)
    return text
