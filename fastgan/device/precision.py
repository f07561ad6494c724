"""The precision of each part of a step, chosen once and reported once."""
from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan.errors import UserError

# x86: bf16 matrix instructions; without them oneDNN emulates bf16 and is slower than fp32.
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Precision:
    """The precision of G's and D's forward and backward computation; everything else is fp32."""

    device_type: str
    compute_dtype: torch.dtype
    reason: str  # why this dtype and not the other
    careful: bool = False  # passes that are differentiated twice compute in fp32

    def autocast(self, twice: bool = False) -> torch.autocast:
        """Return the autocast context in which G and D run.

        twice: the pass is differentiated twice, for a penalty. Weights are cast inside the graph
        and never cached, which a captured step relies on.
        """
        enabled = self.compute_dtype != torch.float32 and not (twice and self.careful)
        return torch.autocast(
            self.device_type,
            dtype=self.compute_dtype if enabled else torch.bfloat16,
            enabled=enabled,
            cache_enabled=False,
        )

    @property
    def name(self) -> str:
        """bf16 | tf32 | fp32, as used in benchmark rows."""
        if self.compute_dtype == torch.bfloat16:
            return "bf16"
        return "tf32" if self.device_type == "cuda" else "fp32"

    def describe(self) -> str:
        """Return the precision of every part, in one line."""
        rest = "TF32 matrix work in fp32 parts" if self.device_type == "cuda" else "fp32 elsewhere"
        parts = "fp32 master weights, BatchNorm statistics, losses and optimiser"
        return f"precision: G and D compute in {self.name} ({self.reason}); {parts}; {rest}"


def choose_precision(amp: bool, device: torch.device) -> Precision:
    """Return bf16 where it is requested and the chip supports it, else fp32 with the reason.

    On CUDA, fp32 matrix products use TF32. Raises UserError for a CUDA device that does not exist.
    """
    if device.type == "cuda":
        _check_there_is(device)
        torch.set_float32_matmul_precision("high")  # cuDNN's convolutions use TF32 by default
    if not amp:
        return Precision(device.type, torch.float32, "amp is off")
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(device.type, torch.float32, "this GPU has no bf16: Ampere or newer does")
    if device.type == "cpu" and not BF16_FLAGS & cpu_flags():
        return Precision(device.type, torch.float32, "this CPU has neither avx512_bf16 nor AMX: bf16 would be slower")
    return Precision(device.type, torch.bfloat16, "amp")


def _check_there_is(device: torch.device) -> None:
    if torch.version.cuda is None:
        raise UserError(
            f"--device {device} needs CUDA, and this torch {torch.__version__} was built without it; "
            "install a CUDA build, or give cpu"
        )
    found = torch.cuda.device_count()
    if (device.index or 0) >= found:
        raise UserError(
            f"--device {device} does not exist: torch sees {found} CUDA devices (fastgan info says more); "
            "give cpu or another one"
        )


def full_precision(precision: Precision) -> Precision:
    """Return fp32 on the same device: the reference for a reduced-precision step."""
    return Precision(precision.device_type, torch.float32, "reference")


def cpu_facts() -> dict[str, str]:
    """Return what Linux reports of the first core: `model name`, `flags`; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cpu_flags() -> set[str]:
    """Return the instruction sets of the first core; empty where they are not known."""
    return set(cpu_facts().get("flags", "").split())
