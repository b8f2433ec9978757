"""Relocation: bytes of one file found, at other places, in files that the store has already."""
