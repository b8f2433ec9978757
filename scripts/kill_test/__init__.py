"""Killing rehydrator at random moments: what has a final name must be right, and the next run must succeed."""
