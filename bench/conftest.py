"""Pytest configuration: `pytest bench/` finds the checkout's `bench`.

fastgan stays the installed one where it is installed.
"""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
