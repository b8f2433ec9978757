"""Boot Loader Specification entries, as ostree writes them.

Source: https://uapi-group.org/specifications/specs/boot_loader_specification/ (type #1) and osbuild
``osbuild/util/bls.py``, which edits the ``options`` line of every entry below ``loader/entries``.
"""

from __future__ import annotations

import re
from collections import Counter

PLATFORM_KEY = "ignition.platform.id"
_PLATFORM = re.compile(rf"(?:^|\s){re.escape(PLATFORM_KEY)}=(\S+)")
_OPTIONS = re.compile(r"^options (.*)$", re.MULTILINE)
_FILE = r"^{key}[ \t]+(\S+)[ \t]*$"


def options_of(entry: str) -> str | None:
    """Return the kernel arguments of an entry, or None where it has no single ``options`` line."""
    found = _OPTIONS.findall(entry)
    return found[0] if len(found) == 1 else None


def with_options(entry: str, options: str) -> str:
    """Return the entry with other kernel arguments."""
    return _OPTIONS.sub(lambda _: f"options {options}", entry, count=1)


def platform_of(options: str) -> str | None:
    """Return the value of ``ignition.platform.id``."""
    found = _PLATFORM.search(options)
    return found[1] if found else None


def file_of(entry: str, key: str) -> str | None:
    """Return the first path that ``linux`` or ``initrd`` names, None without such a line."""
    found = re.search(_FILE.format(key=re.escape(key)), entry, re.MULTILINE)
    return found[1] if found else None


def platforms_of(options: str) -> list[str]:
    """Return every value of ``ignition.platform.id``."""
    return _PLATFORM.findall(options)


def changed_words(old: str, new: str) -> list[str]:
    """Return the words that kernel arguments lose and gain, as ``-word`` and ``+word``."""
    ours, theirs = Counter(old.split()), Counter(new.split())
    return [f"-{word}" for word in (ours - theirs).elements()] + [f"+{word}" for word in (theirs - ours).elements()]


def for_platform(options: str, old_arguments: str, platform: str, arguments: str) -> str | None:
    """Return the kernel arguments of ``platform``, told from those of another platform.

    The platform stage appends `` ignition.platform.id=<id>`` and then the platform's own arguments, so both are taken
    out and the new ones are put at the end. None where ``options`` do not hold what should be taken out.
    """
    old = platform_of(options)
    if old is None:
        return None
    bare = options.replace(f" {PLATFORM_KEY}={old}", "", 1)
    if old_arguments:
        if f" {old_arguments}" not in bare:
            return None
        bare = bare.replace(f" {old_arguments}", "", 1)
    return " ".join(part for part in (bare, f"{PLATFORM_KEY}={platform}", arguments) if part)
