"""``console.cfg``: the GRUB commands of a platform between two marks.

Source: osbuild ``stages/org.osbuild.coreos.platform``; older images hold the same marks in ``grub.cfg``.
"""

from __future__ import annotations

from collections.abc import Sequence

PATH = "/grub2/console.cfg"
PATHS = (PATH, "/grub2/grub.cfg")  # the first that has the marks is the one that GRUB heeds
START = "# CONSOLE-SETTINGS-START\n"
END = "\n# CONSOLE-SETTINGS-END\n"


def commands_of(text: str) -> str | None:
    """Return what stands between the marks, or None where they are missing."""
    _, start, rest = text.partition(START)
    inside, end, _ = rest.partition(END)
    return inside if start and end else None


def with_commands(text: str, commands: Sequence[str]) -> str | None:
    """Return the file with other commands between its marks, or None where they are missing."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    return f"{before}{start}" + "\n".join(commands) + f"{end}{after}" if start and end else None
