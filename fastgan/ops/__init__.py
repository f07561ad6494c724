"""Fused operators.

Each has a reference in torch operations, which always exists, and native kernels where they were
built. An operator is a function in the module of its name: `from fastgan.ops.bias_act import
bias_act`. `status()` lists the implementations that run on this machine, and the reasons why the
others do not. An eager call is timed on first use of its kind; `warm_up(run)` does so for code that
will be compiled. FASTGAN_OPS=reference turns the native kernels off.
"""
import importlib

_PUBLIC = {"status": "fastgan.ops.dispatch.self_checks", "warm_up": "fastgan.ops.dispatch.autotune"}
__all__ = ["status", "warm_up"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fastgan.ops' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
