"""The phases of a preset as graphs of Dynamo's, traced on the CPU.

They are traced as the compiled rung traces them.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

from fastgan import trainer
from fastgan.config import DENSITIES, Config, replace
from fastgan.device.precision import Precision
from fastgan.engine import compiled
from fastgan.engine.system import Phase
from fastgan.errors import UserError
from fastgan.ops.dispatch import autotune, device, registry, self_checks
from fastgan.run import build

NUM_CLASSES = 10
# Nothing was measured on a GPU, so this is an assumption: the library's convolutions, our sums of
# BatchNorm, the rest as the compiler fuses it.
ASSUMED = {"deconv": "reference", "leaky_relu_bce": "reference", "adam_ema": "reference", "batch_norm": "triton"}


class Traced(NamedTuple):
    """A phase as the compiler gets it."""

    name: str
    graph: torch.fx.GraphModule
    inputs: list


class _Traced(BaseException):
    """Raised where Dynamo has finished the graph."""


@contextlib.contextmanager
def traced_phases(config: Config, implementations: dict[str, str]) -> Iterator[list[Traced]]:
    """Yield every phase of a configuration, in bf16 whatever the chip.

    implementations: of operators by name, of the others ASSUMED. The choice stays forced while the
    phases are used, for autograd's part of the tracing comes later.
    """
    # Loads the library, whose operators are traced
    if "cuda" in implementations.values() and (problem := registry.native_problem("cpu")):
        raise UserError(f"the operators in CUDA C++ cannot be traced: {problem}")
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(build, "choose_precision", _bf16):
        loop = trainer.Trainer.from_config(_with_data(config, Path(folder)), progress=False)
    on_cuda = mock.patch.object(device, "described", "cuda")
    nothing_measured = mock.patch.object(autotune, "_table", _no_table)
    nothing_checked = mock.patch.object(self_checks, "problem", _no_problem)
    with mock.patch.dict(autotune._forced, ASSUMED | implementations), on_cuda, nothing_measured, nothing_checked:
        system = loop.engine.system
        loop.feed.reserve(1)
        with system.counters.off():
            yield [Traced(name, *_traced(phase)) for name, phase in system.phases.items()]


def _traced(phase: Phase) -> tuple[torch.fx.GraphModule, list]:
    reached: list[tuple] = []

    def stop(graph: torch.fx.GraphModule, inputs: list) -> None:
        reached.append((graph, inputs))
        raise _Traced

    torch._dynamo.reset()
    with contextlib.suppress(_Traced):
        compiled.traced_by(phase.step, stop)(phase.draw())
    return reached[0]


def _no_table(device_type: str) -> dict:
    """Return the table of choices of a machine that has measured nothing."""
    return {}


def _no_problem(op: str, implementation: str, device_type: str) -> None:
    """Return None as the verdict of every check: the kernels cannot be checked here."""


def _bf16(amp: bool, device: torch.device) -> Precision:
    return Precision(device.type, torch.bfloat16 if amp else torch.float32, "as on the described GPU")


def _with_data(config: Config, folder: Path) -> Config:
    """Return the configuration with random images of its size and with classes, on the CPU."""
    config = replace(config, "run.device", "cpu")
    if config.data.source in DENSITIES:
        return config
    size, num = config.model.img_resolution, 4 * config.run.batch_size
    shape = (num, size, size, config.model.img_channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=np.arange(num) % NUM_CLASSES)
    return replace(config, "data.source", str(folder / "images.npz"))
