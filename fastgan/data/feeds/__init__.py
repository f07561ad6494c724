"""Sources of a step's images, on the device."""
