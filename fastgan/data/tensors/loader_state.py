"""The state of a stateful DataLoader as JSON can hold it, since nothing is ever unpickled."""
from __future__ import annotations

import base64

import numpy as np
import torch


def encode(state: object) -> object:
    """Return a nested state of numbers, texts, bytes, arrays and tensors as JSON can hold it.

    Raises TypeError for anything else.
    """
    if state is None or isinstance(state, bool | int | float | str):
        return state
    if isinstance(state, list):
        return [encode(part) for part in state]
    if isinstance(state, tuple):
        return {"tuple": [encode(part) for part in state]}
    if isinstance(state, dict):
        return {"dict": [[encode(key), encode(part)] for key, part in state.items()]}
    if isinstance(state, bytes):
        return {"bytes": base64.b64encode(state).decode()}
    if isinstance(state, torch.Tensor):
        return {"tensor": encode(state.detach().cpu().numpy())}
    if isinstance(state, np.ndarray | np.generic) and not state.dtype.hasobject:
        array = np.asarray(state)
        return {"array": [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]}
    raise TypeError(f"a {type(state).__name__}")


def decode(state: object) -> object:
    """Return what `encode` was given."""
    if isinstance(state, list):
        return [decode(part) for part in state]
    if not isinstance(state, dict):
        return state
    ((kind, value),) = state.items()
    if kind == "tuple":
        return tuple(decode(part) for part in value)
    if kind == "dict":
        return {decode(key): decode(part) for key, part in value}
    if kind == "bytes":
        return base64.b64decode(value)
    if kind == "tensor":
        return torch.from_numpy(decode(value))
    dtype, shape, data = value
    return np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
