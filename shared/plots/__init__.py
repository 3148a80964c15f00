"""What the pictures of both stages have in common: the camera grid, and how weights look."""
