"""The method: losses, penalties, optimisers, and the phases that a step is made of."""
