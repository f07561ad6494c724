"""The loop, and steps of one's own in it."""
