"""The surroundings of a run: its folder, the machine's limits and environment."""

import datetime
import subprocess
import tempfile
from pathlib import Path

from bench import machine
from bench.caches import KEPT
from bench.gpu.plan import MEMORY_SHARE, SLOTS, UNKNOWN_MEMORY_GB
from bench.gpu.stage import Limits, cores
from fastgan.errors import UserError
from fastgan.processes import signals_received as signals_received

RESULTS_FOLDER = machine.ROOT / "bench" / "results"
CORES_A_SLOT = 3  # a stage that compiles keeps about this number busy


def default_out(is_rehearsal: bool = False) -> Path:
    """Return a folder of its own for every run.

    It lies beside the other results; that of a rehearsal elsewhere.
    """
    name = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
    return Path(tempfile.gettempdir(), f"fastgan-rehearsal-{name}") if is_rehearsal else RESULTS_FOLDER / f"gpu-{name}"


def refuse_results(out: Path) -> None:
    """Raise UserError where a rehearsal would write among the results."""
    if out.resolve().is_relative_to(RESULTS_FOLDER):
        raise UserError(
            f"--out {out} is among the results, and a rehearsal has none: give another folder, or leave --out away"
        )


def limits() -> Limits:
    """Return the places of the plan, fewer on few cores, and the memory of the first GPU."""
    return Limits(max(1, min(SLOTS, cores() // CORES_A_SLOT)), MEMORY_SHARE * (memory_gb() or UNKNOWN_MEMORY_GB))


def memory_gb() -> float | None:
    """Return the total memory of the first GPU; None where nvidia-smi does not report it."""
    command = ("nvidia-smi", "--id=0", "--format=csv,noheader,nounits", "--query-gpu=memory.total")
    try:
        return (
            float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout) * 2**20 / 1e9
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def environment(slots: int, cache: Path | None) -> dict[str, str]:
    """Return the environment variables of every stage.

    They hold its share of the cores for compiling, and the caches of Inductor, Triton and fastgan
    in one folder, where there is one.
    """
    shared = {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, cores() // slots))}
    if cache is None:
        return shared
    names = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "FASTGAN_CACHE": "fastgan"}
    return shared | {KEPT: "1"} | {name: str(cache.resolve() / folder) for name, folder in names.items()}
