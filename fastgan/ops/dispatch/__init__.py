"""Which implementation of an operator runs: what there is, what is correct, what is fastest, kept
between runs.
"""
