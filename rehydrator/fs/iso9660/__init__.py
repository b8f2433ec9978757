"""ISO 9660 images with Rock Ridge and Joliet names, and El Torito boot catalogs."""
