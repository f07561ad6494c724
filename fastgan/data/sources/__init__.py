"""Every supported store of images, as a Source."""
