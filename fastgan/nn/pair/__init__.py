"""Inspection of a user's G and D by trial passes, and the way in which the step calls them."""
