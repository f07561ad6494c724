"""Choice of an operator's implementation: availability, self-checks, timing and caching."""
