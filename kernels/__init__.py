"""Triton kernels and their launch functions, nothing else; imported as fastgan.kernels, and only by
fastgan.ops.
"""
