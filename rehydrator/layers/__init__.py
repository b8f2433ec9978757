"""Layers: reversible wrappings around a disk, one module per format."""
