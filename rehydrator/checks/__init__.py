"""Would this image boot, and as which platform? One module per area; each yields findings and changes nothing."""
