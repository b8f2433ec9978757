"""Starts disk images in emulators and reads on their consoles what booted."""
