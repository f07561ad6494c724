"""Tensors that take long to compute, kept in the cache folder between runs.

They are statistics of real images and trained classifiers.
"""
import contextlib
import hashlib
import json
from collections.abc import Callable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fastgan.errors import DiskError
from fastgan.files import cache_folder, write_beside_and_rename


def cached(kind: str, facts: dict, compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the result of `compute`, on the CPU, computed once for these facts.

    facts: the numbers and strings that it depends on, and nothing else. A file that is missing or
    damaged is written anew; where the disk refuses, nothing is kept.
    """
    described = {"kind": kind, **{name: str(value) for name, value in facts.items()}}
    path = (
        cache_folder()
        / "metrics"
        / f"{kind}-{hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]}.safetensors"
    )
    with contextlib.suppress(OSError, SafetensorError):
        return load_file(path)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in compute().items()}
    with contextlib.suppress(DiskError):
        write_beside_and_rename(path, lambda beside: save_file(tensors, beside, described))
    return tensors
