"""Stream metadata and the files it lists, as a web server has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.server import Site

STREAM = "/streams/testing.json"


class StreamSite:
    """The files of release directories on a server, with stream metadata that points there."""

    def __init__(self, site: Site, sign: Callable[[bytes], bytes], *releases: Path) -> None:
        self.site = site
        self.document: dict[str, Any] = {}
        self.paths: dict[str, str] = {}
        for root in releases:
            stream = json.loads((root / "stream.json").read_bytes())
            for found in self._files(stream):
                source = next(root.glob(f"builds/*/*/{found['location'].rpartition('/')[2]}"))
                path = f"/prod/{source.parent.name}/{source.name}"
                self.paths[source.name] = path
                site.files |= {path: source.read_bytes(), f"{path}.sig": sign(source.read_bytes())}
                found |= {"location": site.url + path, "signature": f"{site.url}{path}.sig"}
            if self.document:
                self.document["architectures"] |= stream["architectures"]
            else:
                self.document = stream
        self.publish()

    @staticmethod
    def _files(stream: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            file
            for arch in stream["architectures"].values()
            for platform in arch["artifacts"].values()
            for roles in platform["formats"].values()
            for file in roles.values()
        ]

    @property
    def files(self) -> list[dict[str, Any]]:
        """The entries of the metadata, to be changed."""
        return self._files(self.document)

    @property
    def address(self) -> str:
        """Where the metadata is."""
        return self.site.url + STREAM

    def publish(self) -> None:
        """Serve the metadata as it is now."""
        self.site.files[STREAM] = json.dumps(self.document).encode()
