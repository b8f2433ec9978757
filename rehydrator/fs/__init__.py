"""File systems: structures, checksums, and which byte belongs to what. No writing, no kernel, no privileges."""
