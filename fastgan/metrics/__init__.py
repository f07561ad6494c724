"""Metrics of the quality of a generator's images.

They are distances between feature distributions, precision and recall, modes, and class accuracy.
"""
import importlib

_PUBLIC = {
    "Evaluator": "fastgan.metrics.evaluator",
    "mixture_coverage": "fastgan.metrics.modes",
}
__all__ = ["Evaluator", "mixture_coverage"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fastgan.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
