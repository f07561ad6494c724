"""All measurements of a machine with an NVIDIA GPU: `fastgan bench gpu`.

They run in one command with a deadline.
"""
