"""Tests of rehydrator; the modules are named after the modules they test."""
