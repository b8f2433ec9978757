"""Codecs: compressed byte formats, without knowledge of what they carry."""
