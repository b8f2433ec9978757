"""Engines: ways to replay a manifest's edits; each gives the same bytes."""
