"""FAT12, FAT16 and FAT32: reader and owner map."""
