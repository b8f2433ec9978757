"""The benchmark behind ``scripts/bench``: sizes and times of rehydrator and its rivals on one release."""
