"""The fused operators one by one, every implementation interleaved: `fastgan bench ops`."""
