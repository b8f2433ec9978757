"""osmet files: how a live system tells the metal disk from the files that it has anyway."""
