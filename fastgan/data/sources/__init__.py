"""Whatever holds images, as a Source."""
