"""Which algorithms torch may take: the fastest, as it measures them, or those alone that give the
same bits every time.

The settings are of the whole process, and stay. By default cuDNN times its algorithms on CUDA for
every kind of call (cudnn.benchmark), and which one wins changes from run to run, and with it the
last bits. A deterministic run times nothing: it has cuDNN's and torch's deterministic algorithms
(pytorch.org/docs/stable/notes/randomness.html), by which Inductor abides as well, and instead of
the fastest of the fused operators the reference, or the one that is forced (choice.fix). The
kernels of csrc and kernels add nothing atomically: each of them gives the same bits every time, and
which of them is the fastest is what may change. cuBLAS needs no CUBLAS_WORKSPACE_CONFIG: torch
gives every stream a workspace of its own.
"""
import contextlib
from collections.abc import Iterator

import torch

from fastgan.errors import UserError

_REFUSED = " does not have a deterministic implementation"


def settle_algorithms(deterministic: bool, device: torch.device) -> str:
    """Tell torch what a run on this device may take, and return that as a sentence, empty where
    there is no choice.

    Has to come before anything runs on the device: cuDNN keeps what it found first for a kind of
    call. False takes nothing back: a process that was told to be deterministic stays so.
    """
    if deterministic:
        _allow_deterministic_alone(device)
        return "algorithms: deterministic ones alone, and no fused operator is chosen by its speed"
    if device.type != "cuda":
        return ""
    if torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic:
        return "algorithms: torch was told before to take deterministic ones; fused operators are chosen by their speed"
    torch.backends.cudnn.benchmark = True
    return "algorithms: the fastest, as measured now; another run agrees up to roundings (--deterministic: to the bit)"


def _allow_deterministic_alone(device: torch.device) -> None:
    torch.use_deterministic_algorithms(True)
    # Else every torch.empty is filled, for programs that read what they have not written.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if device.type == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@contextlib.contextmanager
def refusals_said() -> Iterator[None]:
    """Inside, an operation that torch refuses because it cannot be deterministic becomes a
    UserError that names it.
    """
    try:
        yield
    except RuntimeError as error:
        operation, refused, _ = str(error).partition(_REFUSED)
        if not refused:
            raise
        name = operation.split()[-1]
        words = f"torch {torch.__version__} has no deterministic {name}, which this run needs: leave one of them out"
        raise UserError(f"--deterministic: {words}") from None
