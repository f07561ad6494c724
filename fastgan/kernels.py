"""In a checkout, the folder kernels/ under the name by which it is installed, fastgan.kernels (an
installation has a folder here).
"""
from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "kernels")]
