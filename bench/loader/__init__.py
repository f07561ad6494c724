"""Where the images come from: reading sources, feeding batches, and what a training step waits for
them: `python -m bench loader`.
"""
