"""Intake: from a shipped file to checked, random-access content."""
