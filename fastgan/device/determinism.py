"""The algorithms that torch may use: the fastest ones as measured, or deterministic ones only.

The settings are of the whole process, and stay. By default cuDNN times its algorithms on CUDA for
every kind of call (cudnn.benchmark). The winner changes from run to run, and with it the last bits
of the results. A deterministic run times nothing. It uses the deterministic algorithms of cuDNN and
torch (pytorch.org/docs/stable/notes/randomness.html), which Inductor respects as well, and instead
of the fastest of the fused operators the reference, or the forced implementation (autotune.fix).
The kernels of csrc and kernels use no atomic additions: each of them gives the same bits every
time, and only the choice of the fastest may change. cuBLAS needs no CUBLAS_WORKSPACE_CONFIG: torch
gives every stream a workspace of its own.
"""
import contextlib
from collections.abc import Iterator

import torch

from fastgan.errors import UserError

_REFUSED = " does not have a deterministic implementation"


def settle_algorithms(deterministic: bool, device: torch.device) -> str:
    """Set the algorithms that a run on this device may use; return the setting as a sentence.

    The sentence is empty where there is no choice. Call this before anything runs on the device:
    cuDNN keeps the algorithm that it first found for a kind of call. False undoes nothing: a
    process that was made deterministic stays deterministic.
    """
    if deterministic:
        _allow_deterministic_alone(device)
        return "algorithms: deterministic only; fused operators are not chosen by speed"
    if device.type != "cuda":
        return ""
    if torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic:
        return "algorithms: deterministic, as set in torch before; fused operators are chosen by speed"
    torch.backends.cudnn.benchmark = True
    return "algorithms: the fastest, as measured now; another run may round differently (not with --deterministic)"


def _allow_deterministic_alone(device: torch.device) -> None:
    torch.use_deterministic_algorithms(True)
    # Else every torch.empty is filled, for programs that read memory that they have not written.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if device.type == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@contextlib.contextmanager
def refusals_said() -> Iterator[None]:
    """Turn torch's error for a nondeterministic operation inside into a UserError that names it."""
    try:
        yield
    except RuntimeError as error:
        operation, refused, _ = str(error).partition(_REFUSED)
        if not refused:
            raise
        name = operation.split()[-1]
        words = f"torch {torch.__version__} has no deterministic {name}, which this run needs"
        raise UserError(f"--deterministic: {words}: leave out --deterministic, or what needs it") from None
