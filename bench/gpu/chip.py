"""The machine and its ceilings: `python -m bench.gpu.chip --rows FILE`.

Recorded are versions, clocks, what was built, copy bandwidth and matrix rates.
"""
import argparse
import re
import subprocess
import sys
from pathlib import Path

import torch

from bench import machine, timing
from bench.flops import matmul
from bench.gpu import rows
from bench.ops.measure import _copy as large_copy
from bench.switches import Switches
from bench.timing import quartiles
from fastgan import info
from fastgan.ops.dispatch import registry

QUERY = "clocks.sm,clocks.mem,power.draw,temperature.gpu,memory.used"
DTYPES = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}
ROUNDS, ROUND_S = 5, 0.1
# Matrix products in bf16 that keep the chip busy for about a second, so that its clocks can be read
# under load
BUSY_CALLS = 800


def measure(device: torch.device) -> dict:
    """Measure the rates of a large copy (read and written) and of large matrix products.

    The rates are medians over rounds in which they take turns. The clocks are read idle and busy.
    """
    idle = clocks()
    product = {name: matmul(dtype, device) for name, dtype in DTYPES.items()}
    copy, copied_bytes = large_copy(device)
    calls = {"copy": copy, **{name: call for name, (call, _) in product.items()}}
    seconds, _ = timing.interleave(
        calls, ROUNDS, round_s=ROUND_S, before=lambda name: Switches(matmul_tf32=name == "tf32").apply()
    )
    tflops = {name: flop / quartiles(seconds[name])[1] / 1e12 for name, (_, flop) in product.items()}
    copy_rate = copied_bytes / quartiles(seconds["copy"])[1] / 1e9
    return {
        "copy_gbytes_per_s": copy_rate,
        "matmul_tflops": tflops,
        "clocks_idle": idle,
        "clocks_busy": _clocks_under_load(product["bf16"][0]),
    }


def clocks() -> dict | None:
    """Return the current readings of nvidia-smi by the name of the query; None without it."""
    output = _output("nvidia-smi", "--id=0", "--format=csv,noheader", f"--query-gpu={QUERY}")
    return dict(zip(QUERY.split(","), (part.strip() for part in output.split(",")), strict=False)) if output else None


def architectures(library: Path) -> list[str] | None:
    """Return the GPU architectures in the library; None without cuobjdump or library.

    `sm_90` stands for machine code, `sm_90 ptx` for code that is left to the driver's compiler.
    """
    elf, ptx = (_output("cuobjdump", option, str(library)) for option in ("--list-elf", "--list-ptx"))
    if elf is None:
        return None
    return [
        *sorted(set(re.findall(r"sm_\w+?(?=\.)", elf))),
        *(f"{name} ptx" for name in sorted(set(re.findall(r"sm_\w+?(?=\.)", ptx or "")))),
    ]


def _clocks_under_load(product) -> dict | None:
    """Read the clocks while the chip works on what was launched before."""
    for _ in range(BUSY_CALLS):
        product()
    found = clocks()
    timing.synchronize()
    return found


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def main(arguments: list[str] | None = None) -> int:
    """Write a row `machine` at once, then a row `chip` with the rates."""
    parser = argparse.ArgumentParser("python -m bench.gpu.chip")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    library = {"problem": registry.native_problem("cuda"), "architectures": architectures(registry.library_path())}
    first = {
        "kind": "machine",
        "machine": machine.stamp(),
        "commit": machine.commit(),
        "library": library,
        "info": info.collect(),
    }
    rows.append(options.rows, first)
    print(info.describe(first["info"]), library, flush=True)
    found = {"kind": "chip", **measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"))}
    rows.append(options.rows, found)
    print(found, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
