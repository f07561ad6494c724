"""Where the images of a step come from, on the device."""
