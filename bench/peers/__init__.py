"""Baselines written here from published loops.

`plain` is the loop of the tutorials, `accelerated` that loop after a good engineer's work.

Both know nothing of fastgan but the numbers of a preset. A test holds their networks and one update
of theirs against fastgan's.
"""
