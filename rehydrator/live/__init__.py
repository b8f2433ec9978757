"""What CoreOS keeps in its live images: places for a user's settings, and how to make other images from them."""
