"""A disk that is offered to a virtual machine: qemu's own tools are the client."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrator.disk.extents import Data, Extent
from rehydrator.disk.source import BytesSource, Source
from rehydrator.engines.guestfs.export import Export
from rehydrator.errors import StoreDamagedError
from tests.support.disks import MIB, random_sparse

SIZE = 5 * MIB + 512
DISK = random_sparse(7, 4 * MIB, 0.5, 64)


@pytest.fixture
def export(need: Callable[..., None]) -> Iterator[Export]:
    need("qemu-img", "qemu-io")
    with tempfile.TemporaryDirectory() as directory:  # a short path, as sockets need it
        found = Export(SIZE, Path(directory) / "disk")
        found.start()
        yield found
        found.close()


def url(export: Export) -> str:
    return f"nbd+unix:///?socket={export.path}"


def converted(export: Export, target: Path) -> bytes:
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", url(export), target], check=True)
    return target.read_bytes()


def qemu_io(export: Export, *commands: str) -> subprocess.CompletedProcess[str]:
    arguments = [word for command in commands for word in ("-c", command)]
    command = ["qemu-io", "-f", "raw", *arguments, url(export)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_qemu_reads_what_was_inserted(export: Export, tmp_path: Path) -> None:
    assert converted(export, tmp_path / "empty") == bytes(SIZE)
    export.insert(BytesSource(DISK))
    assert converted(export, tmp_path / "disk") == DISK + bytes(SIZE - len(DISK))
    told = subprocess.run(["qemu-img", "info", "--output=json", url(export)], check=True, capture_output=True)
    assert json.loads(told.stdout)["virtual-size"] == SIZE


def test_what_qemu_writes_stays_in_the_overlay(export: Export, tmp_path: Path) -> None:
    overlay = export.insert(BytesSource(DISK))
    done = qemu_io(export, "write -P 0xa5 4096 1536", f"write -P 0x5a {SIZE - 512} 512", "flush", "read 0 8192")
    assert done.returncode == 0, done.stderr
    expected = bytearray(DISK + bytes(SIZE - len(DISK)))
    expected[4096:5632] = b"\xa5" * 1536
    expected[-512:] = b"\x5a" * 512
    assert converted(export, tmp_path / "disk") == expected
    assert list(overlay.patched) == [Extent(4096, 1536), Extent(SIZE - 512, 512)]
    assert bytes(export.insert(BytesSource(DISK)).read(0, 8192)) == DISK[:8192]


class Damaged(Source):
    """A disk that can't be read."""

    size = MIB

    def read(self, offset: int, length: int) -> Data:
        raise StoreDamagedError("frame is damaged")

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self.size)


def test_an_error_of_the_disk_is_kept(export: Export) -> None:
    export.insert(Damaged())
    assert qemu_io(export, "read 0 512").returncode != 0
    assert isinstance(export.error, StoreDamagedError)


def test_a_client_that_speaks_nonsense_is_hung_up_on(export: Export, tmp_path: Path) -> None:
    noise = (b"GET / HTTP/1.0\r\n\r\n" * 100)[:1024]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(export.path))
        client.sendall(noise)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(99):
                pass
    export.insert(BytesSource(DISK))
    assert converted(export, tmp_path / "disk").startswith(DISK)


def test_nothing_is_left(export: Export) -> None:
    assert export.path.is_socket()
    export.close()
    assert list(export.path.parent.iterdir()) == []
