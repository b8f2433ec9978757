"""What is wrong with a parser."""

from __future__ import annotations


class NotExactError(AssertionError):
    """A damaged file was accepted, but other bytes came back."""


class IncompleteError(AssertionError):
    """A damaged file was refused, but the error does not tell all that it should."""
