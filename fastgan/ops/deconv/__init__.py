"""The layers that double and halve an image: their operators, alone and with the BatchNorm behind
them, in every implementation.
"""
from fastgan.ops.deconv.operator import deconv, project, self_check, strided_conv

__all__ = ["deconv", "project", "self_check", "strided_conv"]
