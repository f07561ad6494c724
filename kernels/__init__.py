"""Triton kernels and their launch functions.

Only fastgan.ops imports them, as fastgan.kernels.
"""
