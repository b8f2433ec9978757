"""Print what a release's stream metadata promises about each file, with its size in the store.

Reads `rehydrator list --json` from standard input. One line per file, fields separated by tabs: artifact key, name
after rehydration, size as shipped, size in the store, sha256 after rehydration.
"""

import json
import sys
from pathlib import Path, PurePosixPath

_COMPRESSIONS = {".xz", ".gz", ".zip"}


def main() -> None:
    """Join the stream metadata named on the command line with the list on standard input."""
    stream = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    listed = {(item["arch"], item["key"]): item for item in json.load(sys.stdin)["artifacts"]}
    for arch, content in stream["architectures"].items():
        for platform, artifact in content["artifacts"].items():
            for suffix, roles in artifact["formats"].items():
                for role, file in roles.items():
                    key = f"{platform}.{suffix}.{role}"
                    stored = listed[arch, key]
                    name = PurePosixPath(PurePosixPath(file["location"]).name)
                    sha256 = file["sha256"]
                    if "uncompressed-sha256" in file and name.suffix in _COMPRESSIONS:
                        sha256 = file["uncompressed-sha256"]
                        name = name.with_suffix("")
                    print(key, name, stored["shipped_size"], stored["stored_size"], sha256, sep="\t")


if __name__ == "__main__":
    main()
