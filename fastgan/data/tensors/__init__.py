"""Data that come as tensors: values of any dtype and shape, kept as exactly as the networks take them."""
