"""Getting files from elsewhere: HTTP(S), resumed where it broke off, under a final name only when they are right."""
