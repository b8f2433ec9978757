"""SELinux labels as plain attributes, so that inodes look as in a real image; no policy is needed to set them."""

import os
from collections.abc import Callable
from pathlib import Path

_LABELS = (
    ("usr/etc/", "etc_t"),
    ("usr/bin/", "bin_t"),
    ("usr/sbin/", "bin_t"),
    ("usr/lib/modules/", "modules_object_t"),
    ("usr/lib/", "lib_t"),
    ("usr/", "usr_t"),
    ("boot/", "boot_t"),
)


def type_of(relative: str) -> str:
    """Return the type of a path relative to the root directory."""
    return next((kind for prefix, kind in _LABELS if f"{relative}/".startswith(prefix)), "root_t")


def label_tree(top: Path, type_for: Callable[[str], str] = type_of) -> None:
    """Label everything from `top` down; `type_for` gets paths relative to `top`."""
    for directory, names, files in os.walk(top):
        for path in (Path(directory), *(Path(directory, name) for name in names + files)):
            kind = type_for(path.relative_to(top).as_posix())
            os.setxattr(path, "security.selinux", f"system_u:object_r:{kind}:s0\0".encode(), follow_symlinks=False)
