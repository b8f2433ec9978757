"""Random-access sources, extents and holes, sequential sinks, and the partition table."""
