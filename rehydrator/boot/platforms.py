"""``platforms.json``: which kernel arguments and GRUB commands a platform gets.

Source: fedora-coreos-config ``platforms.yaml``, which the build puts into the tree as
``usr/share/coreos-assembler/platforms.json`` and the platform stage copies to ``/boot/coreos/platforms.json``.
"""

from __future__ import annotations

import msgspec

PATH = "/coreos/platforms.json"


class PlatformSettings(msgspec.Struct, frozen=True):
    """What one platform adds to the defaults."""

    kernel_arguments: tuple[str, ...] = ()
    grub_commands: tuple[str, ...] = ()

    @property
    def arguments_text(self) -> str:
        """The kernel arguments as they stand on the command line."""
        return " ".join(self.kernel_arguments)


_DEFAULT = PlatformSettings()


class Platforms:
    """All platforms of an image; one without an entry has no settings of its own."""

    def __init__(self, platforms: dict[str, PlatformSettings]) -> None:
        self._platforms = platforms

    @classmethod
    def parse(cls, data: bytes) -> Platforms | None:
        """Read the file; None where it is not what is expected."""
        try:
            return cls(msgspec.json.decode(data, type=dict[str, PlatformSettings]))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def settings(self, platform: str) -> PlatformSettings:
        """Return a platform's settings."""
        return self._platforms.get(platform, _DEFAULT)
