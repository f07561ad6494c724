"""What augmentations are made of: random numbers of other distributions, pixels moved, maps, resampling, colours. Pure functions of tensors."""
