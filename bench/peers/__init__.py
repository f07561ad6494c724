"""Baselines written here from what people publish: `plain`, the loop of the tutorials, and
`accelerated`, what a good engineer makes of it.

Both know nothing of fastgan but the numbers of a preset. A test holds their networks and one update
of theirs against fastgan's.
"""
