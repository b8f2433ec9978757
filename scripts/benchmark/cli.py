"""The command line of ``scripts/bench``."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import architectures, explaining, literals, live, owners, render, transfer, whole, zipl_edit
from .context import ROOT, Bench, Settings
from .engines import measure_engines
from .errors import BenchError
from .everything import measure_all
from .files import tree_size
from .release import Release, read_release
from .replaying import measure_replay
from .report import Report
from .sizes import METHODS, measure_deltas, measure_sizes
from .synthesizing import measure_synthesis
from .times import TIMES, Experiment, measure_times
from .tools import PROGRAMS, install, missing, versions
from .wrapping import measure_wrap

_DEHYDRATE = "dehydrate"
_DELTAS, _REPLAY, _ENGINES, _WRAP = "deltas", "replay", "engines", "wrap"
_ARCHITECTURES, _ZIPL, _SYNTHESIZE, _ALL = "architectures", "zipl", "synthesize", "all"
EXPERIMENTS = (
    *TIMES,
    Experiment(
        "explain", "why metal and openstack differ, and what else tells", explaining.measure, ("qemu-img", "cmp")
    ),
    Experiment(
        "live",
        "the live ISO, and mksquashfs with xz -9",
        live.measure,
        ("mksquashfs", "unsquashfs", "cpio", "xz", "sha256sum"),
    ),
    Experiment("owners", "what each byte of a file system belongs to", owners.measure, ("mke2fs",)),
)
NAMES = (
    *(method.name for method in METHODS),
    *(_DELTAS, _ARCHITECTURES, _REPLAY, _ZIPL, _SYNTHESIZE, _ENGINES, _WRAP, _ALL, transfer.NAME, literals.NAME),
    *(item.name for item in EXPERIMENTS),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure rehydrator and its rivals on one release: sizes, times, peak memory, targets.",
        epilog="Temporary files need about four times the release's size; they are removed at the end.",
    )
    parser.add_argument("builddir", type=Path, metavar="BUILDDIR", help="a coreos-assembler build directory")
    parser.add_argument("--arch", help="architecture; default: the first one of the build")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="measured runs after a warm-up (default: 5)")
    parser.add_argument("--dehydrations", type=int, default=1, metavar="N", help="runs of dehydrate (default: 1)")
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="processors to use, 0 for all (default: 2)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rivals' encoders at once (default: 1)")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS", help="stop rivals' encoders then")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), metavar="DIR", help="where temporary files go")
    parser.add_argument("--store", type=Path, metavar="DIR", help="a store of the release; default: make one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw values here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report as Markdown here")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the table of the whole release into this file")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"only these of {', '.join(NAMES)}")
    parser.add_argument("--install", action="store_true", help="install missing programs with apt-get first")
    return parser


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _facts(release: Release, settings: Settings) -> dict[str, str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "release": f"{release.build} {release.arch}, {len(release.artifacts)} artifacts, synthetic or real: see its "
        f"meta.json ({release.meta.get('summary', 'no summary')})",
        "machine": f"{_processor()}, {settings.cpus} of {os.cpu_count()} processors used, {memory:.0f} GiB memory, "
        f"Linux {platform.release()}",
        "load before": load,
        "runs": f"{settings.runs} after one warm-up, in turn; dehydrate: {settings.dehydrations} without one",
        "tools": "; ".join(f"{name}: {version}" for name, version in versions().items()),
    }


def _terminate(signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def _check(arguments: argparse.Namespace) -> None:
    if min(arguments.runs, arguments.dehydrations, arguments.jobs) < 1:
        raise BenchError("--runs, --dehydrations and --jobs are at least 1")
    if not arguments.work.is_dir():
        raise BenchError(f"{arguments.work}: no directory")
    if arguments.store and _DEHYDRATE in (arguments.only or [_DEHYDRATE]):
        raise BenchError("--store leaves nothing to measure of dehydrate; name all else with --only")
    if arguments.readme and "store" not in (arguments.only or NAMES):
        raise BenchError("--readme needs the sizes of our store: --only store, and rivals")


def _measure(arguments: argparse.Namespace) -> Report:
    available = sorted(os.sched_getaffinity(0))
    cpus = min(arguments.cpus or len(available), len(available))
    os.sched_setaffinity(0, available[:cpus])
    settings = Settings(arguments.runs, arguments.dehydrations, cpus, arguments.jobs, arguments.limit)
    release = read_release(arguments.builddir.resolve(), arguments.arch)
    chosen = frozenset(arguments.only or NAMES)
    report = Report(_facts(release, settings))
    if missing(PROGRAMS):
        report.notes.append(f"not installed: {', '.join(missing(PROGRAMS))}")
    with tempfile.TemporaryDirectory(prefix="rehydrator-bench-", dir=arguments.work.resolve()) as work:
        bench = Bench(release, Path(work), settings, arguments.store and arguments.store.resolve())
        measure_times(bench, [item for item in EXPERIMENTS if item.name in chosen], report)
        if _REPLAY in chosen:
            measure_replay(bench, report)
        if _SYNTHESIZE in chosen:
            measure_synthesis(bench, report)
        if _ENGINES in chosen:
            measure_engines(bench, report)
        if _WRAP in chosen:
            measure_wrap(bench, report)
        if _ALL in chosen:
            measure_all(bench, report)
        if transfer.NAME in chosen and not missing([transfer.REGISTRY]):
            transfer.measure_transfer(bench, report)
        if literals.NAME in chosen:
            literals.measure_literals(bench, report)
        if _ZIPL in chosen and not missing(["sfdisk", "mke2fs"]):
            zipl_edit.measure(bench, report)
        if _ARCHITECTURES in chosen and not missing(["zstd"]):
            architectures.measure(bench, report)
        if _DELTAS in chosen and not missing(["zstd"]):
            measure_deltas(bench, report)
        measure_sizes(bench, chosen, report)
        bench.log(f"removing {tree_size(Path(work)) >> 20} MiB of temporary files")
    report.facts["load after"] = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return report


def _put(report: Report, readme: Path) -> None:
    """Put the table of the whole release between the marks for it."""
    table = next(item for item in report.tables if item.name == whole.NAME)
    script = ROOT / "scripts/lib/readme_figures.py"
    command = [sys.executable, str(script), str(readme), whole.NAME]
    lines = "".join(f"{line}\n" for line in render.text_table(table))
    done = subprocess.run(command, input=lines, text=True, capture_output=True, check=False)
    if done.returncode:
        raise BenchError(done.stderr.strip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the report and return 0, or 1 where a target was missed, or 2 where it can't be measured."""
    chosen = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _check(chosen)
        if chosen.install:
            install(PROGRAMS)
        report = _measure(chosen)
        if chosen.json:
            chosen.json.write_text(render.as_json(report))
        if chosen.markdown:
            chosen.markdown.write_text(render.markdown(report))
        if chosen.readme:
            _put(report, chosen.readme)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    sys.stdout.write(render.text(report))
    return 0 if all(target.met for target in report.targets) else 1
