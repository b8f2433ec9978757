"""Who says that bytes are right: signatures, and statements about what was made."""
