"""Measurements of the data path: `python -m bench loader`.

Reading sources, feeding batches, and the time that a training step waits for them.
"""
