"""The method: losses, penalties, optimisers, and the phases of a step."""
