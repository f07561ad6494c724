"""The fused operators one by one, every implementation interleaved: `python -m bench ops`."""
