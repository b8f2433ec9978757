"""The boot loader entries of a boot partition, and the other small texts beside them.

Sources: Boot Loader Specification, type #1 entries below ``loader/entries``; osbuild ``stages/org.osbuild.zipl.inst``,
which passes the options of the entry and ``ignition.firstboot`` to zipl.
"""

from __future__ import annotations

from rehydrator.boot import bls
from rehydrator.errors import CorruptError
from rehydrator.fs.ext4.ext4 import Ext4

FIRST_BOOT = "ignition.firstboot"
_ENTRIES = "/loader/entries"
_SUFFIX = b".conf"
_MAX_TEXT = 1 << 20


def entry_paths(fs: Ext4) -> list[str]:
    """Return the paths of the BLS entries, sorted."""
    directory = fs.lookup(_ENTRIES)
    if directory is None:
        return []
    names = sorted(entry.name for entry in fs.entries(directory) if entry.name.endswith(_SUFFIX))
    return [f"{_ENTRIES}/{name.decode('utf-8', 'surrogateescape')}" for name in names]


def read_text(fs: Ext4, path: str) -> str | None:
    """Return a small file's text, None where there is none."""
    number = fs.lookup(path)
    if number is None:
        return None
    try:
        return fs.read_file(number, _MAX_TEXT).decode()
    except (UnicodeDecodeError, CorruptError):
        return None


def command_line(fs: Ext4, append: str = FIRST_BOOT) -> str | None:
    """Return what osbuild's zipl stage passes as kernel arguments, None without a BLS entry."""
    paths = entry_paths(fs)
    entry = read_text(fs, paths[0]) if paths else None
    options = bls.options_of(entry) if entry is not None else None
    return None if options is None else f"{options.strip()} {append}"
