"""Measurements of fastgan beside the loops that people run today: `python -m bench`. The package
never imports this.
"""

OPS = ("deconv", "leaky_relu_bce", "adam_ema", "batch_norm")  # the fused operators that can be measured one by one
BASELINES = ("plain", "accelerated")
RUNGS = ("eager", "compiled", "captured")  # of the engine; captured on CUDA alone
NAMES = (*BASELINES, *RUNGS)  # what a step is measured as
# And, where it is asked for, the compiled rung with the reference of every fused operator,
UNFUSED = "compiled-reference"
SINGLE = "captured-1"  # and the captured one with a single step in a launch
# What is measured of data: sources, packing, feeds, and what a step waits for them
LOADER_KINDS = ("read", "pack", "feed", "step")
LOADER_PRESETS = ("mlp", "dcgan")  # whose steps
