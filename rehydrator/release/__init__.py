"""Releases: which artifacts there are, as coreos-assembler or stream metadata tell it."""
