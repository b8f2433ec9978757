"""The manifest: its schema, its text form, its version."""
