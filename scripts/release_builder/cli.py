"""The command line."""

import argparse
import os
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from . import era2021
from .architectures import ALL, by_names
from .build import build_release
from .content import PROFILES
from .guestfish import TOOLS as APPLIANCE_TOOLS
from .platforms import LIVE, Selection, select
from .tools import BuildError, Runner, describe_missing, missing_tools
from .workshop import Options

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Parse a size such as 2G or 1536M."""
    found = re.fullmatch(r"(\d+)([KMGT]?)", text.upper())
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is not a size such as 2G")
    return int(found[1]) * _UNITS[found[2]]


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    platforms = "; ".join(
        f"{item.name}: {', '.join([*(platform.name for platform in item.platforms), *([LIVE] if item.live else [])])}"
        for item in ALL.values()
    )
    result = argparse.ArgumentParser(
        prog="build-release",
        description="Build a CoreOS-like release from Debian packages, with ostree, the kernel's filesystem drivers, "
        "qemu-img and the other real tools, as a cosa build directory with stream metadata.",
        epilog="Root makes the disks on loop devices. Without root they are made in the libguestfs appliance, which "
        "takes longer.",
    )
    result.add_argument("out", type=Path, help="the cosa build directory to write")
    result.add_argument("--arch", default="x86_64", metavar="NAMES",
                        help=f"all, or some of: {', '.join(ALL)} (default: x86_64); packages of other architectures "
                        "than this machine's are unpacked, and of their programs only zipl is run")  # fmt: skip
    result.add_argument("--content", choices=list(PROFILES), default="small", help="default: small")
    result.add_argument("--cloud-size", type=parse_size, default="2G", help="size of the cloud disks (default: 2G)")
    result.add_argument("--ibmcloud-size", type=parse_size, default="100G", help="default: 100G, as in real releases")
    result.add_argument(
        "--platforms", default="all", help=f"all, or some of these, as far as an architecture has them: {platforms}"
    )
    result.add_argument("--build-id", default=f"44.{datetime.now(UTC):%Y%m%d}.20.0", help="default: %(default)s")
    result.add_argument("--era", choices=list(era2021.ERAS), default="osbuild",
                        help="which build system to imitate (default: osbuild); in 2021 the disks of metal, metal4k "
                        "and qemu were made apart and the others edited from qemu's")  # fmt: skip
    result.add_argument("--live-options", default="-comp zstd", metavar="OPTIONS",
                        help="how mksquashfs makes the live root file system, as image.json's live-rootfs-fsoptions "
                        "does (default: %(default)s)")  # fmt: skip
    result.add_argument("--base-url", default="https://builds.example.com/prod/streams/testing/builds",
                        help="where stream metadata says that builds are")  # fmt: skip
    result.add_argument("--xz-level", type=int, choices=range(10), default=9, metavar="N",
                        help="default: 9, as in real releases; 0 makes large contents ten times as fast")  # fmt: skip
    result.add_argument("--uncompressed", action="store_true",
                        help="no xz, gzip or zip around containers, as before a release")  # fmt: skip
    result.add_argument("--keep-work", action="store_true", help="keep the raw intermediate disks")
    result.add_argument("--sign", action="store_true", help="sign each file with a throwaway gpg key")
    return result


def _check_host(args: argparse.Namespace, selections: list[Selection]) -> None:
    tools = list(dict.fromkeys(tool for item in selections for tool in item.tools(sign=args.sign)))
    if os.geteuid() != 0:
        tools += APPLIANCE_TOOLS
    missing = missing_tools(tools)
    if missing:
        raise BuildError(describe_missing(missing))
    if args.out.resolve().is_relative_to("/run"):
        raise BuildError("OUT cannot be below /run, where the build has its private mounts")


def _options(args: argparse.Namespace, selection: Selection) -> Options:
    return Options(
        out=args.out.resolve(),
        content=args.content,
        build_id=args.build_id,
        cloud_size=args.cloud_size,
        ibmcloud_size=args.ibmcloud_size,
        era=args.era,
        live_options=tuple(args.live_options.split()),
        selection=selection,
        base_url=args.base_url,
        xz_level=args.xz_level,
        keep_work=args.keep_work,
        sign=args.sign,
    )


def main() -> int:
    """Build a release; problems end in one message and exit code 1, signals in 130 or 143."""
    args = parser().parse_args()
    runner = Runner()

    signals: list[int] = []

    def stop(number: int, _frame: object) -> None:
        # No exception from here: the build ends at its next command and gives back what it holds on the way.
        signals.append(number)
        runner.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        selections = select(args.platforms, era2021.of_era(by_names(args.arch), args.era))
        if args.uncompressed:
            selections = [item.uncompressed() for item in selections]
        _check_host(args, selections)
        builds = [build_release(_options(args, selection), runner) for selection in selections]
    except BuildError as error:
        print(f"build-release: {error}", file=sys.stderr)
        return 128 + signals[0] if signals else 1
    artifacts = [artifact for build in builds for artifact in build.artifacts]
    for artifact in sorted(artifacts, key=lambda item: item.filename):
        print(f"{artifact.digest.size:>12}  {artifact.filename}")
    return 0
