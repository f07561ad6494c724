"""The compiled step: the only call of torch.compile, and Inductor's options."""
import types
from collections.abc import Callable

import torch

# Torch 2.11 cannot compile four of the families for CUDA with these passes: reordering loops
# asserts on foreach nodes (cgan, biggan, lightweight, r3gan), mixed reductions on shapes of cgan's.
# dcgan has as many launches without them.
WITHOUT_REORDERING = {"loop_ordering_after_fusion": False, "triton.mix_order_reduction": False}


def compiler_options(device_type: str, autotune: bool = False, combo_kernels: bool = False) -> dict:
    """Return Inductor's options for a step on `cpu` or `cuda`.

    autotune, combo_kernels: on CUDA, time kernels, put small ones into one launch. Random numbers
    that the networks draw themselves (dropout) are drawn as eager PyTorch draws them, so that the
    rungs agree.
    """
    from fastgan.engine.passes import GraphPasses

    options = {"fallback_random": True, "post_grad_custom_pre_pass": GraphPasses()}
    if device_type != "cuda":
        return options
    tuning = {"max_autotune": True, "coordinate_descent_tuning": True} if autotune else {}
    return options | WITHOUT_REORDERING | tuning | ({"combo_kernels": True} if combo_kernels else {})


def compile_step(step: Callable, graphs: list[torch.fx.GraphModule], options: dict) -> Callable:
    """Return `step` as one graph compiled by Inductor.

    Every compilation appends its graph to `graphs`, so that a second one is noticed.
    """
    from torch._inductor.compile_fx import compile_fx

    def backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]):
        graphs.append(graph)
        return compile_fx(graph, example_inputs, config_patches=options)

    return traced_by(step, backend)


def traced_by(step: Callable, backend: Callable) -> Callable:
    """Return `step` as one Dynamo graph compiled by `backend`.

    backend: (graph, example inputs) -> callable. torch.autograd.grad inside the graph needs
    Dynamo's private setting trace_autograd_ops (torch 2.11 to 2.13); a test fails when it changes.
    """
    torch._dynamo.config.trace_autograd_ops = True
    return torch.compile(_with_own_code(step), backend=backend, fullgraph=True, dynamic=False)


def _with_own_code(step: Callable) -> Callable:
    """Return a copy of a function with a code object of its own.

    Dynamo stores graphs by code object, and engines must not share them.
    """
    code = step.__code__.replace()
    return types.FunctionType(code, step.__globals__, step.__name__, step.__defaults__, step.__closure__)
