"""The ladder that runs a step: eager, compiled, captured; each rung checked beside the one below."""
