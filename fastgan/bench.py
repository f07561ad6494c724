"""In a checkout, the folder bench/ under the name by which it is installed, fastgan.bench (an
installation has a folder here).
"""
from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "bench")]
