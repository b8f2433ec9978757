"""``file``: a file of an ext4 partition gets other content, in the blocks that its inode has by then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rehydrator.edits.ext4_state import Ext4State
from rehydrator.edits.replay import Replay
from rehydrator.edits.words import counted
from rehydrator.fs.ext4.ext4 import Ext4

MAX_TEXT = 64 << 10


class FileContent(msgspec.Struct, tag="file", tag_field="op", frozen=True):
    """The whole new text of the file ``path``, which is inode ``inode``."""

    partition: str
    inode: int
    path: str
    text: str

    def apply(self, replay: Replay) -> None:
        """Write the text and the size that follows from it."""
        replay.state(Ext4State, self.partition).put_content(self.inode, self.text.encode())

    def describe(self) -> str:
        """Name the file."""
        return f"{self.path} rewritten, {counted(len(self.text.encode()), 'byte')}"

    def literal_bytes(self) -> int:
        """Return none: the content is there to be read."""
        return 0


def recognise(replay: Replay, partition: str, target: Ext4, files: Sequence[tuple[int, str]]) -> Iterator[FileContent]:
    """Tell small text files (inode and path) whose content differs from what it is now."""
    now = replay.state(Ext4State, partition).now
    for number, path in files:
        after = target.inode(number)
        if after.size > MAX_TEXT or now.inode(number).size > MAX_TEXT or not target.has_blocks(after):
            continue
        content = target.read_file(number, MAX_TEXT)
        if content == now.read_file(number, MAX_TEXT):
            continue
        try:
            text = content.decode()
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            yield FileContent(partition, number, path, text)
