"""What a CoreOS image boots with: BLS entries, platforms.json, console settings. Text in, text out."""
