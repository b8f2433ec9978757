"""Reading squashfs file systems."""
