"""Man pages of the commands, made from the commands themselves."""
