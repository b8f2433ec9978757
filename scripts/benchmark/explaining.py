"""``explain`` beside what a person would run instead, on the raw disks of metal and openstack."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from .context import Bench, median
from .errors import BenchError
from .process import Usage, attempt, run
from .report import Target
from .times import Findings
from .tools import missing

_SECONDS = 2
_MEMORY_MIB = 200
_MIB = 1 << 20
_VIRT_DIFF_SECONDS = 300.0
# Without it the appliance may start under KVM and never come up where nested virtualisation is broken.
_TCG = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
# `cmp` and `explain` end with 1 where the disks differ, which they do.
_DIFFERENT = ["sh", "-c", '"$@" >/dev/null; [ $? -eq 1 ]', "sh"]
_COUNT = 'cmp -l "$1" "$2" 2>/dev/null | wc -l'


def measure(bench: Bench, found: Findings) -> None:
    """Run ``explain`` and ``cmp -l | wc -l`` in turn, and ``virt-diff`` once with a limit."""
    disk, metal = bench.release.need("openstack"), bench.content(bench.release.need("metal"))
    content, raw = bench.content(disk), bench.place("explained.raw")
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(content), str(raw)])
    usages = bench.alternate(
        {
            "explain metal.raw openstack.qcow2": _explain(bench, metal, content),
            "cmp -l metal.raw openstack.raw | wc -l": _cmp(metal, raw),
        }
    )
    for name, measured in usages.items():
        found.add(name, measured, raw.stat().st_size)
    ours = median(next(iter(usages.values())))
    found.targets.append(Target("explain metal.raw openstack.qcow2", _SECONDS, ours.wall, "s"))
    found.targets.append(Target("peak memory of explain", _MEMORY_MIB, ours.memory / _MIB, "MiB"))
    found.notes.append(
        "cmp -l counts bytes up to the end of the shorter disk and names none; explain counts all, each with its owner"
    )
    _virt_diff(bench, metal, raw, found)
    raw.unlink()


def _explain(bench: Bench, a: Path, b: Path) -> Callable[[], Usage]:
    command = [*_DIFFERENT, *bench.command("explain", str(a), str(b))]
    return lambda: run(command, env=bench.environment).usage


def _cmp(a: Path, b: Path) -> Callable[[], Usage]:
    def action() -> Usage:
        outcome = run(["sh", "-c", _COUNT, "sh", str(a), str(b)])
        if not int(outcome.output):
            raise BenchError("cmp finds no difference between metal and openstack")
        return outcome.usage

    return action


def _virt_diff(bench: Bench, a: Path, b: Path, found: Findings) -> None:
    """Once is enough for what takes minutes; whatever hangs is stopped."""
    name = "virt-diff of the raw disks (TCG)"
    if missing(["virt-diff"]) or not any(Path("/boot").glob("vmlinuz-*")):
        found.notes.append(f"{name} left out: needs libguestfs-tools and a kernel in /boot")
        return
    bench.log(name)
    environment: Mapping[str, str] = {**os.environ, **_TCG}
    command = ["virt-diff", "--format=raw", "-a", str(a), "--format=raw", "-A", str(b)]
    outcome = attempt(["timeout", "--kill-after=10", f"{_VIRT_DIFF_SECONDS:.0f}", *command], env=environment)
    if outcome.failure:
        found.notes.append(
            f"{name}: no result after {outcome.usage.wall:.0f} s, {outcome.failure.partition(':')[0]}; it looks for an "
            "installed operating system and does not know ostree deployments"
        )
    found.add(name if not outcome.failure else f"{name}: no result", [outcome.usage], b.stat().st_size)
