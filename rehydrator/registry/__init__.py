"""Stores in registries: credentials, the protocol, a cache, and the files of a store as they are asked for."""
