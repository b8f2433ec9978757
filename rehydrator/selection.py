"""Choosing artifacts of a store by the words of the command line."""

from __future__ import annotations

import platform as host
from collections.abc import Iterable, Sequence

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


def short_name(manifest: Manifest) -> str:
    """The name by which ``--disk``, ``info`` and ``verify`` know an artifact."""
    identity = manifest.artifact
    container = parse_format(identity.format).container
    if container == "pxe":
        return f"pxe-{identity.role}"
    if container == "iso":
        return "iso"
    return _METAL_4K if container == "4k.raw" else identity.platform


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
    """Return the manifests that a choice means, in store order.

    A platform that only some of the architectures have is given for those; one that none has is an error.
    """
    manifests = [manifest for arch in arches for manifest in store.manifests(arch)]
    if choice.everything:
        return manifests
    wanted = set(choice.disks)
    if choice.iso:
        wanted.add("iso")
    if choice.pxe:
        wanted |= {"pxe-kernel", "pxe-initramfs", "pxe-rootfs"}
    return named(manifests, wanted)


def named(manifests: Sequence[Manifest], names: Iterable[str]) -> list[Manifest]:
    """Return the manifests with one of the short names or full keys. Raises UsageError for a name that none has."""
    wanted = set(names)
    found = [item for item in manifests if wanted & {short_name(item), item.artifact.key}]
    matched = {name for item in found for name in (short_name(item), item.artifact.key)}
    missing = sorted(wanted - matched)
    if missing:
        arches = ", ".join(dict.fromkeys(item.artifact.arch for item in manifests))
        available = ", ".join(dict.fromkeys(short_name(item) for item in manifests))
        raise UsageError(f"no artifact {', '.join(missing)} for {arches}", hint=f"There are: {available}")
    return found
