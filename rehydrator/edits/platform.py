"""``platform``: kernel arguments and console settings of a platform, told from the image's own platforms.json.

The manifest says only the platform's id. The texts follow from the base's BLS entries, its ``console.cfg``
(``grub.cfg`` where that has the marks) and its ``platforms.json``, if any; see :mod:`rehydrator.boot`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from rehydrator.boot import bls, console
from rehydrator.boot import platforms as settings
from rehydrator.boot.entries import entry_paths, read_text
from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.replay import Replay
from rehydrator.errors import StoreDamagedError
from rehydrator.fs.ext4.ext4 import Ext4


class PlatformText(msgspec.Struct, frozen=True):
    """The new content of one file."""

    path: str
    content: bytes


class Platform(msgspec.Struct, tag="platform", tag_field="op", frozen=True):
    """The boot partition is set up for platform ``id``."""

    partition: str
    id: str

    def apply(self, replay: Replay) -> None:
        """Write the texts into the files as they lie now."""
        state = replay.state(Ext4State, self.partition)
        texts = platform_texts(state.before, self.id)
        if not texts:
            raise StoreDamagedError("the base does not tell the texts of this platform", actual=self.id)
        for text in texts:
            number = state.now.lookup(text.path)
            if number is None:
                raise StoreDamagedError("an edited file is missing", path=self.partition, actual=text.path)
            state.put_content(number, text.content)

    def describe(self) -> str:
        """Name the platform."""
        return f"kernel arguments and console settings of platform {self.id}"

    def describe_texts(self, base: Ext4) -> str:
        """Tell the arguments and commands themselves; ``base`` is the partition before the edit."""
        texts = [(read_text(base, text.path) or "", text) for text in platform_texts(base, self.id)]
        words = [_told(before, text) for before, text in texts if before.encode() != text.content]
        return "; ".join(dict.fromkeys(words)) or self.describe()

    def literal_bytes(self) -> int:
        """Return none: the texts are told, not stored."""
        return 0


def platform_texts(base: Ext4, platform: str) -> list[PlatformText]:
    """Return the texts that differ between the base's platform and ``platform``; nothing where they can't be told."""
    known = known_platforms(base)
    return texts_with(base, known, platform, known.settings(platform)) if known else []


def texts_with(
    base: Ext4, known: settings.Platforms, platform: str, wanted: settings.PlatformSettings
) -> list[PlatformText]:
    """Return the texts of ``platform`` with the settings ``wanted``; nothing where they can't be told.

    ``known`` has the settings of the base's own platform, which are taken out.
    """
    texts: list[PlatformText] = []
    for path in entry_paths(base):
        entry = read_text(base, path)
        options = bls.options_of(entry) if entry is not None else None
        old = bls.platform_of(options) if options is not None else None
        if entry is None or options is None or old is None:
            return []
        new = bls.for_platform(options, known.settings(old).arguments_text, platform, wanted.arguments_text)
        if new is None:
            return []
        texts.append(PlatformText(path, bls.with_options(entry, new).encode()))
    for path in console.PATHS:
        text = read_text(base, path)
        written = console.with_commands(text, wanted.grub_commands) if text is not None else None
        if written is not None:
            texts.append(PlatformText(path, written.encode()))
            break
    return texts


def known_platforms(base: Ext4) -> settings.Platforms | None:
    """Return the settings of all platforms that the base brings, None where they can't be read.

    Where it brings no list, as on s390x, no platform has settings of its own.
    """
    if base.lookup(settings.PATH) is None:
        return settings.Platforms({})
    text = read_text(base, settings.PATH)
    return settings.Platforms.parse(text.encode()) if text is not None else None


def _told(before: str, text: PlatformText) -> str:
    """Tell one new text: the kernel arguments that go and come, or the console's commands."""
    after = text.content.decode()
    if text.path in console.PATHS:
        commands = (console.commands_of(after) or "").splitlines()
        return f"{PurePosixPath(text.path).name} rewritten: {', '.join(commands) or 'no commands'}"
    old, new = (bls.options_of(entry) or "" for entry in (before, after))
    return " ".join(["kernel arguments", *bls.changed_words(old, new)])


def recognise(replay: Replay, partition: str, target: Ext4) -> Iterator[Platform]:
    """Tell whether ``target`` has the texts of the platform that its first BLS entry names."""
    entries = entry_paths(target)
    entry = read_text(target, entries[0]) if entries else None
    options = bls.options_of(entry) if entry is not None else None
    platform = bls.platform_of(options) if options is not None else None
    if platform is None:
        return
    texts = platform_texts(replay.state(Ext4State, partition).before, platform)
    if texts and all(read_text(target, text.path) == text.content.decode() for text in texts):
        yield Platform(partition, platform)
