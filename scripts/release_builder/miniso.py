"""miniso.dat: how the full live ISO gives back the minimal one, which lacks the root filesystem."""

import lzma
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .bincode import VARIABLE, varint
from .metadata import digest_file
from .osmet import INSTALLER_VERSION
from .tools import BuildError

DATA_FILE_SIZE = 16 * 1024

_SECTOR = 2048
_VOLUME_DESCRIPTOR = 16 * _SECTOR
_ROOT_RECORD_AT = 156
_RECORD = struct.Struct("<BxI4xI4x7xB6xB")  # length, extent (LSB), size (LSB), flags, name length
_RECORD_HEAD = 33
_DIRECTORY_FLAG = 0x02


@dataclass(frozen=True)
class IsoFile:
    """A file of an ISO 9660 image."""

    sector: int
    size: int


def iso_files(image: Path) -> dict[str, IsoFile]:
    """List the files of the primary volume with their (ISO level) paths."""
    data = image.open("rb")
    with data:
        data.seek(_VOLUME_DESCRIPTOR)
        descriptor = data.read(_SECTOR)
        if descriptor[1:6] != b"CD001":
            raise BuildError(f"{image} is no ISO 9660 image")

        def walk(sector: int, size: int, prefix: str) -> Iterator[tuple[str, IsoFile]]:
            data.seek(sector * _SECTOR)
            directory = data.read(size)
            position = 0
            while position < size:
                length, extent, extent_size, flags, name_length = _RECORD.unpack_from(directory, position)
                if not length:  # records do not cross sectors
                    position = (position // _SECTOR + 1) * _SECTOR
                    continue
                name = directory[position + _RECORD_HEAD : position + _RECORD_HEAD + name_length].decode("latin-1")
                if flags & _DIRECTORY_FLAG:
                    if name not in ("\0", "\1"):
                        yield from walk(extent, extent_size, f"{prefix}{name}/")
                else:
                    yield f"{prefix}{name}", IsoFile(extent, extent_size)
                position += length

        _length, sector, size, _flags, _name = _RECORD.unpack_from(descriptor, _ROOT_RECORD_AT)
        return dict(walk(sector, size, "/"))


def minimal_table(full: Path, minimal: Path) -> list[tuple[int, int, int]]:
    """Return (sector in minimal, sector in full, bytes) of the files that both have with the same content."""
    full_files = iso_files(full)
    table = set()
    with full.open("rb") as full_data, minimal.open("rb") as minimal_data:
        for path, item in iso_files(minimal).items():
            other = full_files.get(path)
            if other is None or not item.size or other.size != item.size:
                continue
            full_data.seek(other.sector * _SECTOR)
            minimal_data.seek(item.sector * _SECTOR)
            # isolinux.bin differs: genisoimage writes its own place into it.
            if full_data.read(item.size) == minimal_data.read(item.size):
                table.add((item.sector, other.sector, item.size))
    return sorted(table)


def pack(full: Path, minimal: Path) -> None:
    """Write the table into the full ISO's miniso.dat, in place."""
    table = minimal_table(full, minimal)
    content = minimal.read_bytes()
    literal, position = [], 0
    for sector, _full_sector, size in table:
        literal.append(content[position : sector * _SECTOR])
        position = sector * _SECTOR + size
    literal.append(content[position:])
    compressed = lzma.compress(b"".join(literal), lzma.FORMAT_XZ, lzma.CHECK_CRC64, preset=9)
    data = b"MINISO\0\0" + varint(1) + VARIABLE.string(INSTALLER_VERSION) + varint(len(table))
    for entry in table:
        data += b"".join(varint(number) for number in entry)
    data += bytes.fromhex(digest_file(minimal).sha256) + varint(len(compressed)) + compressed
    place = iso_files(full)["/COREOS/MINISO.DAT;1"]
    if len(data) > place.size:
        raise BuildError(f"the minimal ISO needs {len(data)} bytes, miniso.dat has {place.size}")
    with full.open("r+b") as target:
        target.seek(place.sector * _SECTOR)
        target.write(data)
