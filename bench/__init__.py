"""Measurements of fastgan beside the loops that people run today: `python -m bench`. The package never imports this."""

NAMES = ("plain", "accelerated", "eager", "compiled")  # what a step can be measured as: two baselines, then the rungs of the engine
