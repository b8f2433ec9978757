"""Versions of mksquashfs, and what the squashfs layer makes of random trees that they pack."""
