"""The stamp of a row: the machine and the code that it was measured with.

It holds no host names.
"""
import functools
import importlib.metadata
import os
import platform
import subprocess

import torch

from fastgan.bench.places import CHECKOUT
from fastgan.device.precision import cpu_facts, cpu_flags
from fastgan.ops.dispatch.registry import native_problem

WRITTEN = ("bench/results", "docs/family", "docs/family.md")  # what measuring itself changes in the checkout
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")  # what decides how fast matrices are multiplied


def lacks_library() -> str:
    """Return a line for the head of a measurement without the native library, or an empty one."""
    problem = native_problem("cpu")
    return f"measured without the library of native kernels, which a user has: {problem}" if problem else ""


@functools.cache
def stamp() -> dict:
    """Return the machine and software properties that the numbers depend on.

    cores: those this process may use; threads: torch's; gpu, driver, gpu_limits: None without a
    GPU.
    """
    has_gpu = torch.cuda.is_available()
    driver, limits = _gpu_driver() if has_gpu else (None, None)
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in FLAGS if flag in cpu_flags()],
        "memory_gb": _memory_gb(),
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "driver": driver,
        "gpu_limits": limits,
        "os": _system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
    }


def describe(machine: dict) -> str:
    """Describe a stamp in one line."""
    cpu = (
        f"{machine['cpu']} ({machine['cores']} cores, {machine['threads']} threads, "
        f"{' '.join(machine['flags']) or 'no wide instructions'})"
    )
    gpu = f"{machine['gpu']} (driver {machine['driver']}, {machine['gpu_limits']}), " if machine["gpu"] else ""
    software = (
        f"{machine['os']}, Python {machine['python']}, torch {machine['torch']}, triton {machine['triton'] or 'none'}"
    )
    return f"{gpu}{cpu}, {machine['memory_gb']} GB, {software}"


def commit() -> str | None:
    """Return the commit of the checkout; None where there is none.

    It ends in "-dirty" where tracked files, results apart, were changed since.
    """
    head = _output("git", "rev-parse", "--short=12", "HEAD") if CHECKOUT else None
    if head is None:
        return None
    changed = _output(
        "git", "status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{folder}" for folder in WRITTEN)
    )
    return head + ("-dirty" if changed else "")


def busy_note() -> str:
    """Return a warning where other processes keep the cores busy, else nothing.

    It is true only before the measurement itself makes load.
    """
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"the machine was busy: load {load:.1f} on {cores} cores" if load > 0.5 * cores else ""


def _cpu_model() -> str:
    return cpu_facts().get("model name") or platform.processor() or platform.machine()


def _memory_gb() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _gpu_driver() -> tuple[str | None, str | None]:
    """Return (driver version, power limit and highest SM clock of the first GPU)."""
    line = _output(
        "nvidia-smi", "--id=0", "--format=csv,noheader", "--query-gpu=driver_version,power.limit,clocks.max.sm"
    )
    if not line:
        return None, None
    driver, power, clock = (part.strip() for part in line.split(","))
    return driver, f"{power}, SM at most {clock}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """Return the output of a command, None where it does not exist or fails."""
    try:
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
