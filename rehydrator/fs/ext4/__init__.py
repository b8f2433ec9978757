"""ext4: structures, reading, checksums, journal, and what each byte belongs to."""
