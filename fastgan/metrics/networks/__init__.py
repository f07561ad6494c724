"""Feature networks by name, with checked weights."""
