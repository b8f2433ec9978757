"""OCI archives as the image builder makes them: GNU tar and gzip, no container engine."""

import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .metadata import digest_file
from .tools import Runner

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PAX = ("--format=posix", "--pax-option", "delete=atime,delete=ctime")
_XATTRS = r"^(user.|security\.ima|security\.capability)"
_MEDIA_TYPE = "application/vnd.oci.image."


@dataclass(frozen=True)
class _Layer:
    diff_id: str
    descriptor: dict[str, Any]


def make_oci_archive(runner: Runner, tree: Path, archive: Path, architecture: str) -> None:
    """Pack `tree` as the only layer of an image; the time of creation is now, as it is in a real build."""
    layout = archive.parent / "oci"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    seconds = int(time.time())
    created = datetime.fromtimestamp(seconds, UTC).isoformat()
    layer = _add_layer(runner, blobs, tree)
    config = {
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": [_PATH], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": created, "created_by": "/bin/sh -c #(nop) osbuild input 'base'"}],
    }
    manifest = {
        "schemaVersion": 2,
        "config": _add_json(blobs, config, "config.v1+json"),
        "layers": [layer.descriptor],
    }
    index = {"schemaVersion": 2, "manifests": [_add_json(blobs, manifest, "manifest.v1+json")]}
    (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}), encoding="utf-8")
    runner.run(
        "tar", "--remove-files", "--sort=name", "--no-selinux", "--no-xattrs", "--no-acls", "--owner=0", "--group=0",
        "--numeric-owner", "--mode=go=rX,u+rw,a-s", f"--mtime=@{seconds}", *_PAX, "-cf", archive,
        f"--directory={layout}", *_names(layout),
    )  # fmt: skip
    shutil.rmtree(layout, ignore_errors=True)


def _names(directory: Path) -> list[str]:
    """Return the entries in the directory's own order, in which the archive will have them."""
    return [path.name for path in directory.iterdir()]


def _add_layer(runner: Runner, blobs: Path, tree: Path) -> _Layer:
    layer = blobs / "layer.tar"
    runner.run("tar", "--sort=name", "--no-selinux", "--acls", "--xattrs", f"--xattrs-include={_XATTRS}", *_PAX,
               "-cf", layer, "-C", tree, *_names(tree))  # fmt: skip
    diff_id = f"sha256:{digest_file(layer).sha256}"
    runner.run("gzip", "-S", ".compressed", layer)
    return _Layer(diff_id, _add_file(blobs, Path(f"{layer}.compressed"), "layer.v1.tar+gzip"))


def _add_json(blobs: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    path = blobs / "temporary.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return _add_file(blobs, path, media_type)


def _add_file(blobs: Path, path: Path, media_type: str) -> dict[str, Any]:
    digest = digest_file(path)
    path.rename(blobs / digest.sha256)
    return {"digest": f"sha256:{digest.sha256}", "size": digest.size, "mediaType": _MEDIA_TYPE + media_type}
