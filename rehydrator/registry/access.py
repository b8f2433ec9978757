"""How a registry is reached: by TLS that is checked, or without TLS on this machine alone."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import msgspec

from rehydrator.errors import InputError, UsageError


class Access(msgspec.Struct, frozen=True):
    """``ca`` is a file of further certificates to trust; ``plain_http`` asks for no TLS, which only loopback gets."""

    ca: Path | None = None
    plain_http: bool = False

    def base_url(self, host: str) -> str:
        """Return the address of a registry. Raises UsageError where TLS is not to be left out."""
        if not self.plain_http:
            return f"https://{host}"
        if not _is_loopback(host):
            raise UsageError(
                "is not reached without TLS: anybody on the way could read and change what is sent",
                path=host,
                hint="--plain-http is for registries on this machine; --ca names a certificate to trust",
            )
        return f"http://{host}"

    def tls(self) -> ssl.SSLContext:
        """Return which certificates are trusted: the system's, and those of ``ca``."""
        context = ssl.create_default_context()
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ssl.SSLError) as error:
                raise InputError(f"holds no certificates: {error.strerror or error}", path=self.ca) from error
        return context


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
