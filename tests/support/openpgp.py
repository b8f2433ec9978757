"""Keys and signatures made by GnuPG for one test run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path


class Signatory:
    """Somebody with a key of their own; ``public`` is the file of the public key, ``options`` are for every call."""

    def __init__(self, directory: Path, name: str, *options: str, expires: str = "never") -> None:
        self.name = f"{name} <{name}@example.com>"
        # a short path: gpg-agent's socket, below it, must fit into 108 bytes
        self.home = Path(tempfile.mkdtemp(prefix="gpg"))
        self._options = options
        self._gpg("--quick-generate-key", self.name, "ed25519", "sign", expires)
        self.public = directory / f"{name}.asc"
        self.public.write_bytes(self._gpg("--export", "--armor"))
        listing = self._gpg("--list-keys", "--with-colons").decode()
        self.fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))

    def sign(self, data: bytes, *options: str) -> bytes:
        """Return a detached signature."""
        return self._gpg(*options, "--detach-sign", data=data)

    def sign_inline(self, data: bytes) -> bytes:
        """Return a signed message, which is no detached signature."""
        return self._gpg("--sign", data=data)

    def revoke(self, data: bytes) -> None:
        """Revoke the key; ``earlier`` is a signature of ``data`` from before."""
        self.earlier = self.sign(data)
        certificate = self.home / "openpgp-revocs.d" / f"{self.fingerprint}.rev"
        self._gpg("--import", data=certificate.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))
        self.public.write_bytes(self._gpg("--export", "--armor"))

    def _gpg(self, *arguments: str, data: bytes | None = None) -> bytes:
        command = [
            "gpg",
            "--homedir",
            str(self.home),
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            *self._options,
            *arguments,
        ]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def close(self) -> None:
        """End the agent and remove the key."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False)
        shutil.rmtree(self.home, ignore_errors=True)
