"""Builds CoreOS-like releases with the real tools: ostree, mkfs, the kernel's filesystem drivers, qemu-img, xz.

The project's own readers and writers are not used here, so that what this makes is an independent test input.
"""
