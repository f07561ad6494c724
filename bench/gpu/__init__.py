"""All measurements of a machine with an NVIDIA GPU: `python -m bench gpu`.

They run in one command with a deadline.
"""
