"""Debian's registry, on the loopback interface."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "docker-registry"
SECONDS = 30


@contextmanager
def docker_registry(root: Path, *, certificate: Path | None = None, htpasswd: str = "") -> Iterator[str]:
    """Run a registry that keeps its data in ``root / "data"``; give its host and port. It is stopped at the end."""
    root.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config: dict[str, object] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"}
        | ({"tls": {"certificate": str(certificate), "key": str(certificate)}} if certificate else {}),
        "log": {"level": "error", "accesslog": {"disabled": True}},
    }
    if htpasswd:
        (root / "htpasswd").write_text(htpasswd + "\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(root / "htpasswd")}}
    (root / "config.yml").write_text(json.dumps(config))
    with (root / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(root / "config.yml")], stdout=log, stderr=log)
    try:
        _wait(port, process, root / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        else:
            return
