"""What runs in the appliance: makes the disks as on any machine and copies them to the drives.

Called as `python -m release_builder.inside` with the request in BUILD/request.json; leaves BUILD/result.json.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .appliance import BUILD, LIVE, RESULT, as_json, drive_label
from .architectures import by_names
from .content import Packages
from .disk import Loops
from .era2021 import of_era
from .platforms import select
from .rawimage import Kit
from .tools import BuildError, Runner, Steps
from .workshop import HostWorkshop, Options
from .wrap import Target

_CHUNK = 1 << 20


def device(index: int) -> Path:
    """Return the device of a drive by its number.

    By its label: kernels look for several drives at once, so that /dev/sdb may be any of them, also the appliance's
    own root. guestfish itself translates such names; programs in the appliance can't.
    """
    return Path("/dev/disk/guestfs") / drive_label(index)


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the parts of a file that are no holes."""
    end, size = 0, os.fstat(descriptor).st_size
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def copy_to_device(image: Path, target: Path) -> None:
    """Write the data of a sparse file to an empty device; holes stay unwritten."""
    with image.open("rb") as source, target.open("r+b") as sink:
        for start, end in _data(source.fileno()):
            for at in range(start, end, _CHUNK):
                os.pwrite(sink.fileno(), os.pread(source.fileno(), min(_CHUNK, end - at), at), at)
        os.fsync(sink.fileno())


def _packages(request: dict[str, Any], top: Path) -> Packages:
    tree, support = ({name: top / file for name, file in request[key].items()} for key in ("tree", "support"))
    return Packages(tree, support, tuple(top / file for file in request["zipl"]))


def _make(request: dict[str, Any]) -> dict[str, object]:
    top = Path(BUILD)
    work, directory = top / "work", top / LIVE
    work.mkdir()
    directory.mkdir()
    os.environ["TMPDIR"] = str(work)
    (selection,) = select(request["platforms"], of_era(by_names(request["arch"]), request["era"]))
    options = Options(
        out=top, content=request["content"], build_id=request["build_id"],
        cloud_size=request["cloud_size"], ibmcloud_size=request["ibmcloud_size"],
        era=request["era"], live_options=tuple(request["live_options"]),
        selection=selection, base_url="", xz_level=0, keep_work=False, sign=False,
    )  # fmt: skip
    runner = Runner({"HOME": "/root", "PATH": "/usr/sbin:/usr/bin"})
    kit = Kit(runner, Loops(runner), Steps(), work)
    workshop = HostWorkshop(options, kit, _packages(request["packages"], top / "packages"))
    commit = workshop.prepare()
    sizes = {}
    drives = {name: device(index) for index, name in enumerate(request["disks"])}
    for platform in options.selection.platforms:
        image = workshop.disk(platform)
        copy_to_device(image.path, drives[platform.name])
        sizes[platform.name] = image.path.stat().st_size
        if not workshop.shared(platform):
            image.path.unlink()
    target = Target(directory, options.build_id, options.architecture)
    live = workshop.live(target) if options.selection.live else []
    return {"commit": commit, "sizes": sizes, "live": [as_json(item) for item in live]}


def main() -> None:
    """Make everything; what goes wrong is told in the result, since the caller sees no exit code."""
    top = Path(BUILD)
    request = json.loads((top / "request.json").read_text(encoding="utf-8"))
    try:
        result = _make(request)
    except BuildError as error:
        result = {"error": str(error)}
    except Exception:
        result = {"error": traceback.format_exc()}
    (top / RESULT).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
