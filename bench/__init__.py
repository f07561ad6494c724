"""Measurements of fastgan beside the loops that people run today: `fastgan bench`.

In a checkout this is the folder bench/, and `python -m bench` does the same. Of the package, only
the command line imports it.
"""
