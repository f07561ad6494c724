"""Operators of the layers that double and halve an image, in every implementation.

They exist alone and with the BatchNorm behind them.
"""
from fastgan.ops.deconv.operator import deconv, project, self_check, strided_conv

__all__ = ["deconv", "project", "self_check", "strided_conv"]
