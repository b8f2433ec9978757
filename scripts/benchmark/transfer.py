"""What comes over the network of a store in a registry: for one disk with an empty cache, and besides the canonical."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from kill_test.registry import docker_registry

from .context import Bench, Store, remove
from .files import sha256_of
from .process import run
from .report import Cell, Column, Report, Table, Target

NAME = "transfer"
REGISTRY = "docker-registry"
_LIMIT = 200_000  # bytes besides the canonical
_ROLE = "disk"
_ISO = "iso"  # which has that role, and is no disk of a platform
_COLUMNS = (
    Column("what", "what"),
    Column("cache", "in the cache"),
    Column("bytes", "bytes from the registry", "bytes"),
    Column("besides", "besides the canonical", "bytes"),
)


class _Relay:
    """Passes what comes on its port on to a registry, and counts what the registry sends, heads of answers included."""

    def __init__(self, registry: str) -> None:
        self._there = registry.rpartition(":")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.sent = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection((self._there[0], int(self._there[2])))
                for source, sink, counts in ((here, there, False), (there, here, True)):
                    threading.Thread(target=self._pump, args=(source, sink, counts), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counts:
                    self.sent += len(data)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Take no further connections."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@contextmanager
def _registry(bench: Bench, store: Store) -> Iterator[tuple[_Relay, str]]:
    """Give a registry with the store in it, and the reference that leads to it."""
    with docker_registry(bench.place("registry")) as host:
        bench.rehydrator("push", str(store.root), f"{host}/store:1", "--plain-http", "--progress", "none")
        with closing(_Relay(host)) as relay:
            yield relay, f"{relay.place}/store:1"
    remove(bench.work / "registry")


def measure_transfer(bench: Bench, report: Report) -> None:
    """Add the table of transfers; the target is for the disk that takes most besides the canonical."""
    store, _ = bench.store()
    canonical = store.canonical.stat().st_size
    names = {entry["short_name"] for entry in store.listing.values() if entry["role"] == _ROLE}
    disks = sorted(names - {_ISO})
    rows: list[dict[str, Cell]] = []
    with _registry(bench, store) as (relay, place):

        def fetched(words: Sequence[str], cache: Path) -> int:
            bench.log(f"{' '.join(words)} from a registry")
            before = relay.sent
            command = bench.command(*words, "--store", place, "--plain-http")
            run(command, env={**bench.environment, "XDG_CACHE_HOME": str(cache)}, keep_output=False)
            return relay.sent - before

        rows.append({"what": "list", "cache": "nothing", "bytes": fetched(("list",), bench.place("cache"))})
        for disk in disks[:1]:
            size = fetched(_rehydrate(disk, store), bench.place("cache"))
            rows.append({"what": disk, "cache": "nothing", "bytes": size, "besides": size - canonical})
        for disk in disks:
            cache = _with_canonical(bench, store)
            size = fetched(_rehydrate(disk, store), cache)
            rows.append({"what": disk, "cache": "the canonical disk", "bytes": size, "besides": size})
    remove(bench.work / "cache")
    notes = [
        f"canonical disk: {canonical} bytes; each row with a cache of its own; counted where the registry sends them, "
        "heads of answers included"
    ]
    report.tables.append(Table(NAME, "From a registry", _COLUMNS, rows, notes))
    most = max(rows, key=lambda row: int(row.get("besides") or 0))
    what = f"from a registry: a disk besides the canonical ({most['what']})"
    report.targets.append(Target(what, _LIMIT, int(most.get("besides") or 0), "bytes"))


def _rehydrate(disk: str, store: Store) -> tuple[str, ...]:
    return ("rehydrate", "-", "--disk", disk, "--arch", store.arch, "--progress", "none")


def _with_canonical(bench: Bench, store: Store) -> Path:
    """Return a cache that holds the canonical disk and nothing else."""
    cache = bench.place("cache")
    blobs = cache / "rehydrator" / "blobs"
    blobs.mkdir(parents=True)
    shutil.copyfile(store.canonical, blobs / sha256_of(store.canonical))
    return cache
