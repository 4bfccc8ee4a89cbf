"""Measurements of one clip: what is seen and heard in it, as numbers."""
