"""Archives of cpio's "new" format, and the images of an initramfs, which are several of them."""
