"""The measured calls of operators: every call that the presets make.

Each has every implementation that fits and that passed its self-check.
"""
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from fastgan import models
from fastgan.bench.ops import deconv_cases
from fastgan.config import replace
from fastgan.config.presets import preset
from fastgan.ops import adam_ema
from fastgan.ops.batch_norm import batch_norm
from fastgan.ops.dispatch import autotune, registry, self_checks
from fastgan.ops.leaky_relu_bce import leaky_relu_bce_head

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NORMS = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels and pixels of a side, in a DCGAN of 64 pixels
# Preset, features of an image, batches in one call (real and fake)
HEADS = (("mlp", (256,), 2), ("dcgan", (512, 4, 4), 1))


@dataclass(frozen=True)
class OpCase:
    """One kind of call; flop and bytes: the useful ones, every input and output counted once."""

    op: str
    call: str  # the shapes and the direction, in words
    dtype: str  # fp32 | bf16 | fp16
    flop: int
    bytes: int
    candidates: dict[str, Callable[[], object]]  # by implementation, the reference first


def all_cases(names: list[str], batch_size: int, dtypes: list[str], device: torch.device) -> Iterator[OpCase]:
    """Yield the cases of these operators, one at a time.

    A case's tensors are freed when the next one is made.
    """
    for name in names:
        for dtype in dtypes:
            for call, flop, num_bytes, candidates in CASES[name](batch_size, DTYPES[dtype], device):
                trusted = {
                    each: run
                    for each, run in candidates.items()
                    if each.startswith(autotune.REFERENCE) or _is_trusted(name, each, device)
                }
                yield OpCase(name, call, dtype, flop, num_bytes, trusted)


def _is_trusted(op: str, implementation: str, device: torch.device) -> bool:
    return self_checks.problem(op, implementation, device.type) is None


def head_cases(batch_size: int, dtype: torch.dtype, device: torch.device):
    """Yield the cases of the end of D with its loss, forward and backward."""
    for name, features, times in HEADS:
        shape = (times * batch_size, *features)
        x = torch.randn(shape, device=device).to(dtype).requires_grad_()
        weight = torch.randn(1, *features, device=device).requires_grad_()
        target = torch.rand(shape[0], device=device)

        def run(implementation, x=x, weight=weight, target=target):
            autotune.force({"leaky_relu_bce": implementation})
            return torch.autograd.grad(leaky_relu_bce_head(x, weight, None, target)[0].sum(), (x, weight))

        names = (autotune.REFERENCE, *registry.OPS["leaky_relu_bce"])
        candidates = {each: lambda each=each, run=run: run(each) for each in names}
        num_bytes = 3 * x.numel() * x.element_size()  # read twice, its gradient written
        yield f"forward and backward {name} {'x'.join(map(str, shape))}", 6 * x.numel(), num_bytes, candidates


def adam_cases(batch_size: int, dtype: torch.dtype, device: torch.device):
    """Yield the cases of an Adam step over the parameters of G with its moving average.

    The gradients are in the dtype.
    """
    for name, resolution, channels in (("mlp", 28, 1), ("dcgan", 64, 3)):
        config = replace(replace(preset(name), "model.img_resolution", resolution), "model.img_channels", channels)
        parameters = [parameter.detach().to(device) for parameter in models.build(config.model)[0].parameters()]
        gradients = [torch.randn_like(parameter).to(dtype) for parameter in parameters]
        moments = [[torch.zeros_like(parameter) for parameter in parameters] for _ in range(2)]
        average = [parameter.clone() for parameter in parameters]
        scalars = (torch.tensor(value, device=device) for value in (1.0, 1.0, 2e-4, 0.5, 0.999, 0.999))
        state = adam_ema.AdamState(parameters, *moments, average, *scalars, 1e-8)
        candidates = {
            each: lambda run=run, g=gradients, state=state: run(g, state)
            for each, run in adam_ema.forms(state).items()
        }
        numel = sum(math.prod(parameter.shape) for parameter in parameters)
        # Weights, two moments and the average read and written, gradients read
        num_bytes = numel * (4 * 8 + gradients[0].element_size())
        yield f"step and average {name} G {numel} parameters", 15 * numel, num_bytes, candidates


def norm_cases(batch_size: int, dtype: torch.dtype, device: torch.device):
    """Yield the cases of BatchNorm with leaky ReLU, forward and backward.

    They are of one batch, and of real and fake images at once.
    """
    for (channels, size), parts in itertools.product(NORMS, (1, 2)):
        shape = (parts * batch_size, channels, size, size)
        x = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        dy = torch.randn_like(x)
        weight, bias = (torch.rand(channels, device=device).requires_grad_() for _ in range(2))

        def run(implementation, x=x, dy=dy, weight=weight, bias=bias, parts=parts):
            autotune.force({"batch_norm": implementation})
            return torch.autograd.grad(
                batch_norm(x, weight, bias, None, None, act="leaky_relu", parts=parts), (x, weight, bias), dy
            )

        candidates = {each: functools.partial(run, each) for each in (autotune.REFERENCE, *registry.OPS["batch_norm"])}
        # x and the gradient read, the result and its gradient written, x read once more
        num_bytes = 5 * x.numel() * x.element_size()
        yield f"forward and backward {'x'.join(map(str, shape))} {parts} parts", 20 * x.numel(), num_bytes, candidates


CASES = {"deconv": deconv_cases.cases, "leaky_relu_bce": head_cases, "adam_ema": adam_cases, "batch_norm": norm_cases}
