"""Images that a release never had: what they change in the canonical disk, and how they are wrapped."""
