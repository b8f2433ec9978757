"""Choosing artifacts of a store by the words of the command line."""

from __future__ import annotations

import platform as host
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from rehydrator.errors import UsageError
from rehydrator.manifest.schema import Manifest
from rehydrator.release.formats import parse_format
from rehydrator.store.reader import Store

ALL = "all"
_METAL_4K = "metal4k"


class Choice(msgspec.Struct, frozen=True):
    """What was asked for: platforms by name, the live files, or everything."""

    disks: tuple[str, ...] = ()
    iso: bool = False
    pxe: bool = False
    everything: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was asked for."""
        return not (self.disks or self.iso or self.pxe or self.everything)


def short_name(key: str) -> str:
    """The name by which ``--disk``, ``info`` and ``verify`` know the artifact ``key``: ``platform.format.role``."""
    platform, _dot, rest = key.partition(".")
    form, _dot, role = rest.rpartition(".")
    container = parse_format(form).container
    if container == "pxe":
        return f"pxe-{role}"
    if container == "iso":
        return "iso"
    return _METAL_4K if container == "4k.raw" else platform


def architectures(store: Store, wanted: str | None) -> list[str]:
    """Return the architectures that ``--arch`` means: one, ``all``, or by default the host's or the only one."""
    if wanted == ALL:
        return store.architectures
    if wanted is not None:
        store.arch(wanted)
        return [wanted]
    if len(store.architectures) == 1:
        return store.architectures
    machine = host.machine()
    if machine not in store.architectures:
        raise UsageError(
            f"the store has several architectures, none of them this machine's {machine}",
            path=store.name,
            hint=f"Choose with --arch: {', '.join(store.architectures)} or all",
        )
    return [machine]


def choose(store: Store, arches: Iterable[str], choice: Choice) -> list[Manifest]:
    """Return the manifests that a choice means, in store order; no others are read.

    A platform that only some of the architectures have is given for those; one that none has is a UsageError.
    """
    keys = {arch: store.keys(arch) for arch in arches}
    if not choice.everything:
        keys = _named(keys, _names(choice))
    return [manifest for arch, found in keys.items() for manifest in store.manifests(arch, found)]


def _names(choice: Choice) -> set[str]:
    """Return the short names, or full keys, of what a choice means."""
    wanted = set(choice.disks)
    if choice.iso:
        wanted.add("iso")
    if choice.pxe:
        wanted |= {"pxe-kernel", "pxe-initramfs", "pxe-rootfs"}
    return wanted


def _named(keys: Mapping[str, Sequence[str]], wanted: set[str]) -> dict[str, list[str]]:
    """Return the keys of each architecture that have one of the names. Raises UsageError for one that none has."""
    found = {arch: [key for key in own if wanted & {short_name(key), key}] for arch, own in keys.items()}
    matched = {name for own in found.values() for key in own for name in (short_name(key), key)}
    missing = sorted(wanted - matched)
    if missing:
        arches = ", ".join(arch for arch, own in keys.items() if own)
        available = ", ".join(dict.fromkeys(short_name(key) for own in keys.values() for key in own))
        raise UsageError(f"no artifact {', '.join(map(repr, missing))} for {arches}", hint=f"There are: {available}")
    return found
