"""Kernels of generated code as machine code: what each takes of the chip."""

import functools
import hashlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.cuda_code.described_gpu import machine_codes
from fastgan.errors import UserError


class Usage(NamedTuple):
    """Of one kernel, the most of the configurations that it would start with."""

    registers: int  # a thread
    shared_bytes: int  # a block
    spilled_bytes: int  # a thread: what did not fit into registers, or was indexed, and lies in memory


def usage_of(kernels: dict[str, str], folder: Path) -> dict[str, Usage]:
    """Compile every kernel, source by name, for sm_90. folder: takes their sources. Raises what Triton raises."""
    found: dict[str, Usage] = {}
    for name, source in kernels.items():
        file = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.py"
        usages = [_usage(code, shared) for code, shared in machine_codes(source, name, file)]
        found[name] = Usage(*(max(values) for values in zip(*usages, strict=True)))
    return found


def _usage(code: bytes, shared: int) -> Usage:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        text = subprocess.run(
            [_cuobjdump(), "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    numbers = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", text)}
    return Usage(numbers["REG"], max(shared, numbers["SHARED"]), numbers["STACK"] + numbers["LOCAL"])


@functools.cache
def _cuobjdump() -> str:
    """The one that Triton brings along."""
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not path.exists():
        raise UserError(
            f"Triton {triton.__version__} came without cuobjdump, which says what kernels take; give --no-machine-code"
        )
    return str(path)
