"""Pytest configuration: `pytest bench/` finds the checkout where fastgan is not installed."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
