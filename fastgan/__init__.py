"""fastgan: a compiled, measured training engine for generative adversarial networks.

The public names are loaded on first use, so that `import fastgan` costs milliseconds and touches no
CUDA, Triton or extension.
"""
import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "accelerate": "fastgan.nn.accelerate",
    "Trainer": "fastgan.trainer",
    "UserError": "fastgan.errors",
    "DiskError": "fastgan.errors",
    "DivergedError": "fastgan.errors",
}
_PACKAGES = ("data", "metrics", "nn", "ops")
__all__ = ["DiskError", "DivergedError", "Trainer", "UserError", "__version__", "accelerate", *_PACKAGES]


def __getattr__(name: str):
    if name in _PACKAGES:
        return importlib.import_module(f"fastgan.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fastgan' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_PACKAGES})
