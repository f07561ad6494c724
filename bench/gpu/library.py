"""The native library of this machine: `python -m bench.gpu.library --rows FILE`.

The library in the checkout is used where it fits, else it is built.

It fits where it loads beside this torch, a kernel of it gives what the reference gives, and it has
machine code for the device. It is tried in a process of its own. The row records the library that
is used, and the reason where one was built.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.gpu import rows
from bench.gpu.chip import architectures
from bench.machine import ROOT
from fastgan.ops import bias_act
from fastgan.ops.dispatch import registry

TRY_S, BUILD_S = 90.0, 170.0


def settle(device_type: str, path: Path) -> dict:
    """Decide on the library, build it where that is needed, and write and return the row.

    used is `prebuilt`, `built` or `none`.
    """
    started = time.perf_counter()
    found = tried(device_type)
    used, why = "prebuilt", unfit(found)
    if why:
        print(f"the library in the checkout is not used: {why}", flush=True)
        build_problem = build()
        found = tried(device_type)
        used = "none" if build_problem or found["problem"] else "built"
        why = "; then: ".join(filter(None, (why, build_problem, found["problem"])))
    row = {"kind": "library", "used": used, "why": why, **found, "seconds": round(time.perf_counter() - started, 1)}
    rows.append(path, row)
    print(row, flush=True)
    return row


def unfit(found: dict) -> str:
    """Return the reason why a tried library does not fit this machine; empty where it does."""
    if found["problem"]:
        return found["problem"]
    listed = found["architectures"]
    if found["wanted"] is None or listed is None or any(name.rstrip("af") == found["wanted"] for name in listed):
        return ""
    return f"it has no machine code for {found['wanted']}, only {', '.join(listed) or 'none'}"


def tried(device_type: str) -> dict:
    """Return {problem, wanted, architectures} of the library in the checkout.

    It is loaded in a process of its own, which may crash.

    wanted: sm_90 on such a device, None on a CPU. architectures: as cuobjdump lists them, None
    where it is missing.
    """
    command = [sys.executable, "-m", "bench.gpu.library", "--try", device_type]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TRY_S)
    except subprocess.TimeoutExpired:
        return {"problem": f"trying it took more than {TRY_S:.0f} s", "wanted": None, "architectures": None}
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        said = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
        return {
            "problem": f"trying it ended with code {ended.returncode}: {said}",
            "wanted": None,
            "architectures": None,
        }
    return json.loads(lines[-1])


def try_here(device_type: str) -> dict:
    """Return the result of `tried`, computed in this process."""
    device = torch.device(device_type)
    problem = registry.native_problem(device_type) or bias_act.self_check(device_type, device)
    wanted = "sm_{}{}".format(*torch.cuda.get_device_capability()) if device_type == "cuda" else None
    return {"problem": problem, "wanted": wanted, "architectures": architectures(registry.library_path())}


def build() -> str:
    """Build the library into the checkout with the tools on PATH.

    Returns the error in words, empty where there was none.
    """
    if shutil.which("cmake") is None:
        return "cmake is not installed"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        deadline = time.monotonic() + BUILD_S
        for command in (
            ["cmake", *generator, "-S", str(ROOT), "-B", folder],
            ["cmake", "--build", folder, f"-j{os.cpu_count()}"],
        ):
            try:
                ended = subprocess.run(
                    command, stdout=sys.stderr, stderr=sys.stderr, timeout=max(1.0, deadline - time.monotonic())
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"building it did not end: {error}"
            if ended.returncode:
                return f"{' '.join(command[:2])} ended with code {ended.returncode}"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Settle the library; 0 where there is one that can be used, else 1."""
    parser = argparse.ArgumentParser("python -m bench.gpu.library")
    parser.add_argument("--rows", type=Path, metavar="FILE")
    parser.add_argument(
        "--try", dest="tried", metavar="DEVICE", help="try what lies in the checkout, and say how it is as JSON"
    )
    options = parser.parse_args(arguments)
    if options.tried:
        print(json.dumps(try_here(options.tried)))
        return 0
    return int(settle("cuda" if torch.cuda.is_available() else "cpu", options.rows)["used"] == "none")


if __name__ == "__main__":
    sys.exit(main())
