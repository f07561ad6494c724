"""Registry of the operators and their implementations that this machine can load.

The library of native kernels is loaded on first use, not on import, and its absence is never an
error: a sentence tells what is missing and how to get it. FASTGAN_OPS=reference turns everything
but the references off.
"""
import ctypes
import functools
import importlib
import importlib.util
import os
from typing import NamedTuple

import torch

from fastgan.errors import UserError
from fastgan.ops.dispatch import tiles
from fastgan.ops.dispatch.binaries import library_path

# All ops, and their implementations beside the reference: cpu and cuda are in the library, triton
# in fastgan.kernels, the others are torch operations.
OPS = {
    "adam_ema": ("cpu", "triton"),
    "batch_norm": ("triton",),
    "bias_act": ("cpu", "cuda"),
    "channel_sums": ("triton",),
    "conv": ("subpixel", "flipped"),
    "deconv": ("subpixel", "cpu", "cuda", "triton"),
    "deconv_stats": ("cuda",),
    "leaky_relu_bce": ("cpu", "triton"),
}
# Modules that register shapes for the library's operators in torch.
NATIVE = ("adam_ema", "bias_act", "deconv.meta", "deconv.stats", "leaky_relu_bce")
# Device types of the tensors that an implementation takes; the others take any.
DEVICE_TYPES = {"cpu": "cpu", "cuda": "cuda", "triton": "cuda"}
NO_CUDA = "torch sees no CUDA device"
REBUILD = "install a C++ compiler and reinstall fastgan, or in a checkout: cmake -S . -B build && cmake --build build"


class Row(NamedTuple):
    """One implementation of one op, and the reason if it is not available (empty if it is)."""

    op: str
    implementation: str  # reference, subpixel, cpu, cuda, triton ...
    available: bool
    reason: str


def module_of(op: str) -> str:
    """Return the full name of the module that defines an operator and its `self_check`."""
    return "fastgan.ops." + op.replace("deconv_", "deconv.")


def unavailable(implementation: str, device_type: str) -> str | None:
    """Return the reason why an implementation cannot run on this device type, or None.

    Loads the library on first use. Raises UserError where FASTGAN_OPS has a value other than
    `reference`.
    """
    if turned_off():
        return "turned off by FASTGAN_OPS=reference"
    if DEVICE_TYPES.get(implementation, device_type) != device_type:
        return f"it is not for {device_type} tensors"
    if implementation in ("cpu", "cuda"):
        return native_problem(device_type)
    return _triton_problem() if implementation == "triton" else None


def turned_off() -> bool:
    """Return True if FASTGAN_OPS=reference turns every implementation but the references off.

    Raises UserError for another value.
    """
    choice = os.environ.get("FASTGAN_OPS", "")
    if choice not in ("", "reference"):
        raise UserError(
            f"FASTGAN_OPS={choice!r} is unknown: set it to 'reference', "
            "or unset it to use native kernels where there are some."
        )
    return choice == "reference"


def native_problem(device_type: str) -> str | None:
    """Return the reason why the library's kernels cannot run on this device type, or None.

    Loads the library on first use. Raises UserError where FASTGAN_OPS has a value other than
    `reference`.
    """
    if turned_off():
        return "turned off by FASTGAN_OPS=reference"
    library, problem = _load()
    if problem or device_type == "cpu":
        return problem
    return _cuda_problem(library) if device_type == "cuda" else f"there are no native kernels for {device_type}"


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """Return the library with its ops registered in torch, or the reason why there is none."""
    path = library_path()
    if not path.exists():
        return None, f"{path.name} was not built: {REBUILD}"
    try:
        library = ctypes.CDLL(str(path))
        failed = library.fastgan_register()
    # Torch lacks a function that the library needs, or it is another library
    except (OSError, AttributeError) as error:
        return None, f"{path} does not load beside torch {torch.__version__} ({error}): {REBUILD}"
    if failed:
        return None, f"torch {torch.__version__} refused the operators of {path}: {REBUILD}"
    try:
        for module in NATIVE:
            importlib.import_module(f"fastgan.ops.{module}").register_in_torch()
    except RuntimeError as error:
        return None, f"{path} is older than this code ({str(error).splitlines()[0]}): {REBUILD}"
    return library, None


@functools.cache
def _triton_problem() -> str | None:
    if not torch.cuda.is_available():
        return NO_CUDA
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: it comes with CUDA builds of torch"
    return None


@functools.cache
def _cuda_problem(library: ctypes.CDLL) -> str | None:
    if not torch.cuda.is_available():
        return NO_CUDA
    library.fastgan_cuda_problem.restype = ctypes.c_char_p
    problem = library.fastgan_cuda_problem()
    if problem is not None:
        return f"{problem.decode()}: put the nvcc of a CUDA that the driver supports on PATH and reinstall fastgan"
    if torch.cuda.get_device_capability() < (8, 0):
        return f"{torch.cuda.get_device_name()} is older than the kernels, which need compute capability 8.0"
    tiles.load(tiles.LibraryTiles(library, torch.cuda.get_device_properties().multi_processor_count))
    return None
