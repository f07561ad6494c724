"""`fastgan info`: the features of this machine, and the missing ones with their remedies."""
import importlib.metadata
import importlib.util
import platform
import shutil

import torch

from fastgan import __version__
from fastgan.device.precision import choose_precision
from fastgan.files import cache_folder
from fastgan.ops.dispatch import autotune, self_checks, timing

PACKAGES = ("torch", "triton", "numpy", "nvidia-dali-cuda130", "tensorboard")
HOW_TO_GET = {
    "nvidia-dali-cuda130": "pip install 'fastgan[dali]' (Linux, NVIDIA GPU)",
    "tensorboard": "pip install 'fastgan[tensorboard]'",
    "triton": "comes with CUDA builds of torch",
}


def collect() -> dict:
    """Return all facts as values for JSON.

    The keys are fastgan, python, platform, packages, device, precision, compile, cuda_graph, ops
    and cache.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "fastgan": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(device),
        "precision": choose_precision(True, device).describe(),
        "compile": _compiler(device),
        "cuda_graph": _cuda_graph(device),
        "ops": [row._asdict() for row in self_checks.status()],
        "cache": str(cache_folder()),
    }


def describe(facts: dict) -> str:
    """Return the facts as lines for a person, with a remedy for each missing feature."""
    lines = [f"fastgan    {facts['fastgan']}", f"python     {facts['python']} on {facts['platform']}"]
    for name, version in facts["packages"].items():
        lines.append(
            f"package    {name} {version or 'is not installed: ' + HOW_TO_GET.get(name, 'pip install ' + name)}"
        )
    lines += [f"device     {key}: {value}" for key, value in facts["device"].items()]
    lines += [
        facts["precision"].replace(": ", "  ", 1),
        f"compile    {facts['compile']}",
        f"cuda graph {facts['cuda_graph']}",
    ]
    for row in facts["ops"]:
        lines.append(
            f"op         {row['op']}: {row['implementation']} "
            f"{'is available' if row['available'] else 'is not used: ' + row['reason']}"
        )
    return "\n".join([*lines, f"cache      {facts['cache']}"])


def collect_ops() -> dict:
    """Return every kind of call that was measured on this machine.

    Each has chosen: a name, and microseconds: name -> quartiles.
    """
    return {call: row._asdict() for call, row in autotune.table().items()}


def describe_ops(rows: dict) -> str:
    """Return a line for each kind of call.

    It has the medians in microseconds, marks the chosen one, and names the ones that could not be
    timed as usual.
    """
    if not rows:
        return "no operator has been measured on this machine yet: training measures them before its first step"
    lines = []
    for call, row in rows.items():
        medians = {
            name: quartiles[1] for name, quartiles in sorted(row["microseconds"].items(), key=lambda item: item[1][1])
        }
        times = ", ".join(
            f"{name} {median:.0f} us{' (chosen)' * (name == row['chosen'])}" for name, median in medians.items()
        )
        unusual = "; ".join(
            f"{name}: {how}" for name, how in row["timed"].items() if how not in (timing.WALL_CLOCK, timing.GRAPH)
        )
        lines.append(f"{call}: {times}{f' [{unusual}]' if unusual else ''}")
    return "\n".join(lines)


def _version(package: str) -> str | None:
    if package == "torch":
        return torch.__version__  # names the CUDA it was built for; the package of a CUDA build does not
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(device: torch.device) -> dict:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "name": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
            "memory GB": round(properties.total_memory / 1e9, 1),
            "CUDA of torch": torch.version.cuda,
        }
    reason = "this torch was built without CUDA" if torch.version.cuda is None else "no NVIDIA GPU or driver was found"
    return {
        "name": f"CPU ({platform.processor() or platform.machine()})",
        "threads": torch.get_num_threads(),
        "no GPU": reason,
    }


def _cuda_graph(device: torch.device) -> str:
    if device.type != "cuda":
        return "needs an NVIDIA GPU"
    return (
        "steps are launched as CUDA graphs; no CUDA part of this release has run on a GPU yet, and each is checked "
        "against eager at every start"
    )


def _compiler(device: torch.device) -> str:
    """Return the state of the compiler that the compiled rung needs.

    Inductor needs a C++ compiler on the CPU, Triton on CUDA.
    """
    if device.type == "cuda":
        return "Triton is installed" if importlib.util.find_spec("triton") else "no Triton: steps run eager"
    from torch._inductor import config

    names = [
        name for name in (config.cpp.cxx if isinstance(config.cpp.cxx, list | tuple) else [config.cpp.cxx]) if name
    ]
    found = next((path for path in map(shutil.which, [*names, "g++", "c++", "clang++"]) if path), None)
    return f"C++ compiler {found}" if found else "no C++ compiler: steps run eager (install one, such as g++)"
