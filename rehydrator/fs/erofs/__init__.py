"""Reading erofs file systems."""
