"""Pushing a store to a registry or an OCI layout."""

from __future__ import annotations

from rehydrator.manifest.schema import File
from rehydrator.oci.artifact import artifact_of, descriptor_of
from rehydrator.oci.c_oci import Descriptor, MediaType
from rehydrator.oci.digest import describe, encode
from rehydrator.progress import Progress, Task
from rehydrator.registry.place import Target
from rehydrator.store.reader import Store
from rehydrator.workers import worker_pool


def push(store: Store, target: Target, created: int | None, progress: Progress) -> Descriptor:
    """Push a store and return the descriptor of its artifact. The tag appears last, what is there is not sent again.

    Each file's digest is compared before it is sent. ``created`` is in seconds since the epoch, None for when the
    release's metadata was made.
    """
    files = list(store.files())
    data = encode(artifact_of(store, files, created))
    descriptor = describe(data, MediaType.MANIFEST)
    unique = list({file.sha256: file for file in (*files, store.index_file)}.values())
    total = sum(file.size for file in unique)
    with progress.task("push", total) as task:
        sent = _send(unique, store, target, task, progress)
        target.publish(data, descriptor)
        size = sum(file.size for file in sent)
        task.note = f"{len(sent)} of {len(unique)} files sent, {size} of {total} bytes"
    return descriptor


def _send(files: list[File], store: Store, target: Target, task: Task, progress: Progress) -> list[File]:
    """Send the files that the target lacks, several at once; return them."""

    def send(file: File) -> bool:
        descriptor = descriptor_of(file)
        if target.has(descriptor):
            task.advance(file.size)
            return False
        store.check_file(file)
        target.put_file(store.path(file), descriptor, task)
        return True

    with worker_pool(target.at_once, "push", progress) as pool:
        try:
            return [file for file, done in zip(files, pool.map(send, files), strict=True) if done]
        except BaseException:
            target.abort()
            raise
