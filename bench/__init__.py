"""Measurements of fastgan beside the loops that people run today: `python -m bench`. The package never imports this."""
