"""On-disk cache of self-check verdicts and measured times of this machine's operators.

The cache folder has one JSON file for each kind and device. Its name contains everything that could
change the results: chip, driver, torch, Triton, the library of kernels. A file that cannot be read
or written costs time and nothing else.
"""
import functools
import hashlib
import importlib.metadata
import json
import platform
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from fastgan import __version__
from fastgan.device.precision import cpu_facts
from fastgan.errors import DiskError
from fastgan.files import cache_folder, write_text
from fastgan.ops.dispatch.binaries import digest_of_kernels


class Findings(dict):
    """A dict of JSON-able values by string that persists once `save()` was called.

    kind: verdicts | times | tiles. is_valid: tells if a value in the file is one that this code
    wrote; others are left out.
    """

    def __init__(self, kind: str, device_type: str, is_valid: Callable[[object], bool]):
        self.path = cache_folder() / "ops" / f"{kind}-{device_type}-{_stamp(device_type)}.json"
        super().__init__({key: value for key, value in _read(self.path).items() if is_valid(value)})

    def save(self) -> None:
        """Write the present values, merged with those that another process may have saved."""
        try:
            write_text(self.path, json.dumps({**_read(self.path), **self}, indent=1, sort_keys=True) + "\n")
        except DiskError as error:
            warnings.warn(f"what was measured about the operators is not kept: {error}", stacklevel=2)


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@functools.cache
def _stamp(device_type: str) -> str:
    facts = [
        _device(device_type),
        torch.__version__,
        _triton(),
        __version__,
        str(torch.get_num_threads()),
        digest_of_kernels(),
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _device(device_type: str) -> str:
    if device_type == "cuda":
        return (
            f"{torch.cuda.get_device_name()} {torch.cuda.get_device_capability()} "
            f"CUDA {torch.version.cuda} driver {_driver()}"
        )
    return f"{platform.machine()} {_cpu_name()}"


def _driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


def _cpu_name() -> str:
    """Return the chip and its instruction sets: an image may start on another chip tomorrow."""
    facts = cpu_facts()
    return " ".join(facts.get(name, "") for name in ("model name", "flags", "Features")).strip() or platform.processor()


def _triton() -> str:
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return "no triton"
