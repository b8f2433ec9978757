"""XFS version 5: reader, owner map, checksums and log."""
