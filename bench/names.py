"""Names of what can be measured, in a file that loads nothing: the command line lists them."""

OPS = ("deconv", "leaky_relu_bce", "adam_ema", "batch_norm")  # the fused operators that can be measured one by one
BASELINES = ("plain", "accelerated")
RUNGS = ("eager", "compiled", "captured")  # of the engine; captured on CUDA alone
NAMES = (*BASELINES, *RUNGS)  # implementations of a step
# Measured on request: the compiled rung with the reference of every fused operator,
UNFUSED = "compiled-reference"
SINGLE = "captured-1"  # and the captured one with a single step in a launch
# Measurements of data: sources, packing, feeds, and the time that a step waits for them
LOADER_KINDS = ("read", "pack", "feed", "step")
LOADER_PRESETS = ("mlp", "dcgan")  # whose steps
