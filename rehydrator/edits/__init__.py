"""Edits: named changes that make one disk from another, one module per op."""
