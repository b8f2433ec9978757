"""Why two images differ: builders make a tree of causes, presenters turn the tree into text, JSON or HTML."""
