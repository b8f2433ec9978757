"""A base image made of this system's own Debian packages: what the Containerfile installs is in it already.

It takes a second where debootstrap takes half a minute, so that the ordinary test run can build the container;
``scripts/test-container`` builds it from a real base.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

from rehydrator.oci.c_oci import Execution, ImageConfig, Manifest, MediaType, RootFS
from rehydrator.oci.layout import LayoutWriter
from rehydrator.oci.stored import gzip_stored

PACKAGES = (
    *("base-files", "bash", "coreutils", "dash", "findutils", "grep", "libstdc++6", "python3-venv", "sed"),
    "util-linux",
)
_LEFT_OUT = re.compile(
    r"/usr/(share/(doc|info|lintian|locale|man)|lib/python3/dist-packages|lib/python3[.\d]*/test)/|.*\.pyc$"
)
_APT = b"#!/bin/sh\n# every package is there\n"


def closure(wanted: tuple[str, ...]) -> list[str]:
    """Return installed packages and all that they depend on."""
    told = subprocess.run(
        ["dpkg-query", "-W", "-f", "${binary:Package}\t${Package} ${Provides}\t${Depends}, ${Pre-Depends}\n"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    for line in told.splitlines():
        package, provided, depends = line.split("\t")
        names.update(dict.fromkeys(re.findall(r"[a-z0-9][a-z0-9.+-]+", provided), package))
        needs[package] = re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)", depends)
    found: list[str] = []
    waiting = [names[name] for name in wanted]
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.append(package)
            waiting += [names[name] for name in needs[package] if name in names]
    return sorted(found)


def files_of(packages: list[str]) -> dict[str, Path]:
    """Return the files of packages, by name in the image; on a system with one ``/usr`` those of ``/bin`` are there."""
    listed = subprocess.run(["dpkg", "-L", *packages], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in set(listed.splitlines()):
        path = Path(line)
        if line.startswith("/") and path != Path("/") and os.path.lexists(path) and not _LEFT_OUT.match(line):
            path = path.parent.resolve() / path.name
            found[str(path)] = path
    return found


def write(layout: Path) -> None:
    """Write the image to an OCI layout."""
    root = {str(path): path for path in map(Path, ("/bin", "/sbin", "/lib", "/lib64"))}
    entries = files_of(closure(PACKAGES)) | root
    with tempfile.TemporaryFile() as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in sorted(entries):
                archive.add(entries[name], name, recursive=False)
            stub = tarfile.TarInfo("usr/bin/apt-get")
            stub.size, stub.mode = len(_APT), 0o755
            archive.addfile(stub, io.BytesIO(_APT))
        stream.seek(0)
        diff_id = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        with LayoutWriter(layout) as writer:
            layer = writer.put_pieces(gzip_stored(iter(lambda: stream.read(1 << 20), b"")), MediaType.LAYER_GZIP)
            config = ImageConfig(
                architecture="amd64", os="linux", config=Execution(), rootfs=RootFS(diff_ids=["sha256:" + diff_id]),
                history=[],
            )  # fmt: skip
            image = Manifest(config=writer.put(config, MediaType.CONFIG), layers=[layer])
            writer.tag(writer.put(image, MediaType.MANIFEST), "latest")
