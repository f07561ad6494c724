"""Everything that a machine with an NVIDIA GPU can show, in one command with a deadline: `python -m
bench gpu`.
"""
