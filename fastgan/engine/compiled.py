"""The compiled rung: every phase as one graph of Inductor's kernels.

This is the only file that calls torch.compile. It also has Inductor's options.
"""
import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from fastgan.engine.compiler_faults import lstm_as_loop, without_faulty_fusion
from fastgan.engine.eager import EagerSteps
from fastgan.engine.parity import Tolerance
from fastgan.engine.phase_schedule import Variant
from fastgan.engine.system import EngineLog, Ladder, Step, System

# Torch 2.11 cannot compile four of the families for CUDA with these passes: reordering loops
# asserts on foreach nodes (cgan, biggan, lightweight, r3gan), mixed reductions on shapes of cgan's.
# dcgan has as many launches without them.
WITHOUT_REORDERING = {"loop_ordering_after_fusion": False, "triton.mix_order_reduction": False}


class CompiledPhases:
    """The phases of a system, each compiled if that succeeds and agrees with eager, else eager.

    graphs: those that were compiled and are in use, for counting.
    """

    def __init__(self, system: System, ladder: Ladder, eager: EagerSteps, log: EngineLog):
        self._system, self._ladder, self._eager, self._log = system, ladder, eager, log
        self._steps: dict[str, Step] = {name: phase.step for name, phase in system.phases.items()}
        self.graphs: list[torch.fx.GraphModule] = []

    def call(self, variant: Variant) -> None:
        """Run the phases of a step, each in its fastest form."""
        for name in variant:
            self._steps[name](self._system.phases[name].draw())

    def compile(self, tolerances: dict[str, Tolerance]) -> bool:
        """Compile every phase that can be compiled; report why another stays eager.

        tolerances: those of the phases by name, replaced where the phase itself is. Returns True if
        any phase was compiled.
        """
        for name in self._system.phases:
            problem = self._compile(name, tolerances[name])
            if problem is not None and self._system.phases[name].careful_step is not None:
                problem = self._compile_carefully(name, tolerances, problem)
            if problem is not None:
                label = self._system.label(name)
                self._log.report(f"the compiled step{label} is not used, the eager one is: {problem}")
        return len(self.graphs) > 0

    def options(self) -> dict:
        """Return Inductor's options for the steps of this system."""
        return compiler_options(self._system.device_type, self._ladder.autotune, self._ladder.combo_kernels)

    def _compile(self, name: str, tolerance: Tolerance) -> str | None:
        """Replace the eager phase by the compiled one; return None, or the problem.

        Where there is a problem, everything stays as before.
        """
        eager, before = self._steps[name], len(self.graphs)
        problem = self._try_to_compile(name, tolerance)
        num_graphs = len(self.graphs) - before
        problem = problem or (None if num_graphs == 1 else f"it became {num_graphs} graphs instead of one")
        if problem is not None:
            self._steps[name], self.graphs[before:] = eager, []
        return problem

    def _try_to_compile(self, name: str, tolerance: Tolerance) -> str | None:
        try:
            self._steps[name] = compile_step(self._steps[name], self.graphs, self.options())
            return tolerance.disagreement(partial(self.call, (name,)))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any compiler error: the reason is reported, the eager rung stays
            return self._log.explain(error)

    def _compile_carefully(self, name: str, tolerances: dict[str, Tolerance], problem: str) -> str | None:
        """Compile the phase with its penalty in fp32, for every rung where that succeeds."""
        phase = self._system.phases[name]
        self._replace(name, phase.careful_step)
        tolerance = self._eager.measure(name)
        if self._compile(name, tolerance) is None:
            tolerances[name] = tolerance
            label = self._system.label(name)
            self._log.report(f"the penalty{label} computes in fp32 inside the compiled step: {problem}")
            return None
        self._system.phases = {**self._system.phases, name: phase}
        self._steps[name] = phase.step
        return problem

    def _replace(self, name: str, step: Step) -> None:
        phase = replace(self._system.phases[name], step=step, careful_step=None)
        self._system.phases = {**self._system.phases, name: phase}
        self._steps[name] = step


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
        with lstm_as_loop():
            return without_faulty_fusion(partial(compile_fx, graph, example_inputs, config_patches=options))

    return traced_by(step, backend)


def traced_by(step: Callable, backend: Callable) -> Callable:
    """Return `step` as one Dynamo graph compiled by `backend`.

    backend: (graph, example inputs) -> callable. torch.autograd.grad inside the graph needs
    Dynamo's private setting trace_autograd_ops (torch 2.11 to 2.13), nn.LSTM needs its allow_rnn;
    tests fail when they change.
    """
    torch._dynamo.config.trace_autograd_ops = True
    torch._dynamo.config.allow_rnn = True
    return torch.compile(_with_own_code(step), backend=backend, fullgraph=True, dynamic=False)


def _with_own_code(step: Callable) -> Callable:
    """Return a copy of a function with a code object of its own.

    Dynamo stores graphs by code object, and engines must not share them.
    """
    code = step.__code__.replace()
    return types.FunctionType(code, step.__globals__, step.__name__, step.__defaults__, step.__closure__)
