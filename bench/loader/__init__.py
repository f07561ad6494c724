"""Measurements of the data path: `fastgan bench loader`.

Reading sources, feeding batches, and the time that a training step waits for them.
"""
