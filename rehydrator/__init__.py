"""Keep one canonical disk image per architecture and give back every file of a CoreOS release, bit for bit."""

__version__ = "0.1.0"
