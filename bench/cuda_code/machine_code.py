"""Machine code of generated kernels: registers, memory and spills of each."""

import functools
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from fastgan.bench.cuda_code.described_gpu import machine_codes
from fastgan.errors import UserError


class Usage(NamedTuple):
    """Resources of one kernel, the largest over the configurations of its first run."""

    registers: int  # a thread
    shared_bytes: int  # a block
    spilled_bytes: int  # a thread: what did not fit into registers, written to memory and read back


def usage_of(kernels: dict[str, str], folder: Path) -> dict[str, Usage]:
    """Compile every kernel, source by name, for sm_90.

    folder: takes their sources. Raises what Triton raises.
    """
    found: dict[str, Usage] = {}
    for name, source in kernels.items():
        file = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.py"
        usages = [_usage(*each) for each in machine_codes(source, name, file)]
        found[name] = Usage(*(max(values) for values in zip(*usages, strict=True)))
    return found


def _usage(code: bytes, ptx: str, shared: int) -> Usage:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        text = subprocess.run(
            [_tool("cuobjdump"), "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    numbers = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", text)}
    has_memory = numbers["STACK"] + numbers["LOCAL"] > 0
    return Usage(numbers["REG"], max(shared, numbers["SHARED"]), _spilled_bytes(ptx) if has_memory else 0)


def _spilled_bytes(ptx: str) -> int:
    """Return the spilled bytes that the assembler reports for a kernel with local memory.

    The rest is indexed, such as the 48 bytes in which CUDA's cosine reduces large arguments.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        target = re.search(r"^\.target (\w+)", ptx, re.M)[1]
        command = [_tool("ptxas"), f"--gpu-name={target}", "-v", file.name, "-o", os.devnull]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return sum(int(number) for number in re.findall(r"(\d+) bytes spill (?:stores|loads)", text))


@functools.cache
def _tool(name: str) -> str:
    """Return the path of the tool that Triton ships."""
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    if not path.exists():
        raise UserError(
            f"Triton {triton.__version__} came without {name}, which says what kernels take; give --no-machine-code"
        )
    return str(path)
