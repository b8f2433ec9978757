"""Making small container images."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

from rehydrator.oci.c_oci import Descriptor, Execution, History, ImageConfig, Manifest, MediaType, Platform, RootFS
from rehydrator.oci.layout import LayoutWriter


def tar_of(files: dict[str, bytes]) -> bytes:
    """Return a tar archive of files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def put_base(writer: LayoutWriter, architecture: str = "amd64", history: tuple[History, ...] = ()) -> Descriptor:
    """Add an image of one small layer."""
    tar = tar_of({"etc/os-release": b"ID=test\n"})
    layer = writer.put_bytes(gzip.compress(tar, mtime=0), MediaType.LAYER_GZIP)
    config = ImageConfig(
        architecture=architecture,
        os="linux",
        config=Execution(
            user="65532:65532", env=["PATH=/usr/bin", "REHYDRATOR_STORE=/elsewhere"], entrypoint=["rehydrator"],
            labels={"org.opencontainers.image.source": "https://example.com/rehydrator"}, stop_signal="SIGTERM",
        ),
        rootfs=RootFS(diff_ids=["sha256:" + hashlib.sha256(tar).hexdigest()]),
        history=list(history),
    )  # fmt: skip
    made = writer.put(Manifest(config=writer.put(config, MediaType.CONFIG), layers=[layer]), MediaType.MANIFEST)
    return Descriptor(
        media_type=made.media_type, digest=made.digest, size=made.size, platform=Platform(architecture, "linux")
    )
