"""Detached signatures with a key that is thrown away."""

from pathlib import Path

from .tools import Runner


def sign_all(runner: Runner, files: list[Path], work: Path) -> None:
    """Write FILE.sig beside each file."""
    home = work / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--batch", "--homedir", home, "--pinentry-mode", "loopback", "--passphrase", "")
    runner.run(*gpg, "--quick-generate-key", "throwaway test key <test@example.com>", "ed25519", "sign", "1d")
    try:
        for path in files:
            runner.run(*gpg, "--detach-sign", "--output", path.with_name(f"{path.name}.sig"), path)
    finally:
        runner.run("gpgconf", "--homedir", home, "--kill", "gpg-agent", protected=True)
