"""The accelerated baseline: the tutorial loop after a day of a good engineer's work.

It is the real competitor.

bf16 autocast, channels_last for convolutions, torch.compile of G and D, fused Adam, logits, one
backward for D, no gradients of D in the G step where autograd can leave them out, nothing read back
from the device. Where a step is faster so, D is compiled together with its losses instead of alone,
on CUDA in the CUDA graphs of torch.compile(mode="reduce-overhead"). On CUDA also TF32.
"""
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from fastgan.bench import timing
from fastgan.bench.peers import networks
from fastgan.config import Config

FIRST_STEPS = 2  # networks that are compiled one by one compile everything within these
FIRST_GRAPHED_STEPS = 4  # torch.compile warms up, then records its graphs, then replays them


class AcceleratedLoop:
    """G, D and their optimisers. draw_z: as in the plain loop.

    dtype: of the compute, torch.bfloat16 (autocast) or torch.float32 (on CUDA with TF32). compile:
    G and D by torch.compile, at their first call. note: the result of `warm_up` on compiling D
    together with its losses.
    """

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype, compile: bool):
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
        model, optim = config.model, config.optim
        self.memory_format = torch.channels_last if model.architecture == "dcgan" else torch.contiguous_format
        G, D = networks.build(model)
        self.G = G.to(device, memory_format=self.memory_format)
        self.D = D[:-1].to(device, memory_format=self.memory_format)
        self.G_parameters = list(self.G.parameters())
        betas = (optim.beta1, optim.beta2)
        self.optimizer_G = torch.optim.Adam(self.G_parameters, lr=optim.lr_G, betas=betas, eps=optim.eps, fused=True)
        self.optimizer_D = torch.optim.Adam(self.D.parameters(), lr=optim.lr_D, betas=betas, eps=optim.eps, fused=True)
        self.run_G, self.run_D = (_compiled(self.G), _compiled(self.D)) if compile else (self.G, self.D)
        self.autocast = lambda: torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
        self.fresh_fakes = config.loss.fresh_fakes
        self.draw_z = lambda: networks.draw_z(model, config.run.batch_size, device)
        self.compile, self.on_cuda = compile, device.type == "cuda"
        self.functions: WholeFunctions | None = None
        self.note = ""

    def warm_up(self, real_img: torch.Tensor) -> float:
        """Run the steps until full speed, and choose between the two ways to compile.

        Returns the seconds that the chosen one took.
        """
        warm_up_s = _seconds_of(lambda: self.step(real_img), FIRST_STEPS)
        return self.try_functions(real_img, warm_up_s) if self.compile else warm_up_s

    def step(self, real_img: torch.Tensor) -> None:
        """Make one update of D and of G on float real_img [N, ...]."""
        real_img = real_img.to(memory_format=self.memory_format)
        if self.functions is None:
            self._step(real_img)
        else:
            self._whole_step(real_img, self.functions)

    def _step(self, real_img: torch.Tensor) -> None:
        with self.autocast():
            fake_img = self.run_G(self.draw_z())
            d_loss = _cross_entropy(self.run_D(real_img), 1.0) + _cross_entropy(self.run_D(fake_img.detach()), 0.0)
        self.optimizer_D.zero_grad(set_to_none=True)
        d_loss.backward()
        self.optimizer_D.step()

        with self.autocast():
            if self.fresh_fakes:
                fake_img = self.run_G(self.draw_z())
            g_loss = _cross_entropy(self.run_D(fake_img), 1.0)
        self.optimizer_G.zero_grad(set_to_none=True)
        g_loss.backward(inputs=self.G_parameters)
        self.optimizer_G.step()

    # --- D compiled together with its losses --------------------------------------------------------------------------

    def try_functions(self, real_img: torch.Tensor, plain_s: float) -> float:
        """Compile whole functions, and keep them if a step is faster with them.

        plain_s: the seconds that the step without them took to be ready.

        Returns the seconds of the form that stays. A failure of the compiler is a note.
        """
        real_img, functions = (
            real_img.to(memory_format=self.memory_format),
            WholeFunctions(self.G, self.D, self.on_cuda),
        )
        steps = {"without": lambda: self._step(real_img), "with": lambda: self._whole_step(real_img, functions)}
        what = "D compiled with its losses" + ", in CUDA graphs" * self.on_cuda
        try:
            functions_s = _seconds_of(steps["with"], FIRST_GRAPHED_STEPS)
            call_s, _ = timing.interleave(steps, rounds=3, round_s=0.1)
        except Exception as error:  # whatever the compiler cannot do: the baseline goes on as it was
            self._forget_gradients()
            lines = str(error).strip().splitlines() or ["no message"]
            self.note = f"without {what}: {type(error).__name__}: {lines[0]}"
            return plain_s
        gain = min(call_s["without"]) / min(call_s["with"])
        self.note = f"a step with {what} is {gain:.2f} times as fast as without" + (
            "" if gain > 1 else ", so it goes without"
        )
        self.functions = functions if gain > 1 else None
        return functions_s if gain > 1 else plain_s

    def _whole_step(self, real_img: torch.Tensor, functions: "WholeFunctions") -> None:
        """Make the same update with whole functions.

        The results of the graphs of a step live until the next step begins, gradients included, so
        nothing has to be cloned.
        """
        torch.compiler.cudagraph_mark_step_begin()
        with self.autocast():
            fake_img = functions.run_G(self.draw_z())
            d_loss = functions.d_loss(real_img, fake_img.detach())
        d_loss.backward()
        self.optimizer_D.step()
        self.optimizer_D.zero_grad(set_to_none=True)

        self.D.requires_grad_(False)  # its gradients are not computed in G's step
        with self.autocast():
            if self.fresh_fakes:
                fake_img = functions.run_G(self.draw_z())
            g_loss = functions.g_loss(fake_img)
        self.D.requires_grad_(True)
        g_loss.backward()
        self.optimizer_G.step()
        self.optimizer_G.zero_grad(set_to_none=True)

    def _forget_gradients(self) -> None:
        """Drop the gradients after a step that broke off."""
        self.D.requires_grad_(True)
        self.optimizer_D.zero_grad(set_to_none=True)
        self.optimizer_G.zero_grad(set_to_none=True)


class WholeFunctions:
    """The three forward passes of a step, each compiled with its backward pass.

    On CUDA they run in CUDA graphs of torch.compile.
    """

    def __init__(self, G: torch.nn.Module, D: torch.nn.Module, on_cuda: bool):
        def d_loss(real_img: torch.Tensor, fake_img: torch.Tensor) -> torch.Tensor:
            return _cross_entropy(D(real_img), 1.0) + _cross_entropy(D(fake_img), 0.0)

        def g_loss(fake_img: torch.Tensor) -> torch.Tensor:
            return _cross_entropy(D(fake_img), 1.0)

        self.run_G, self.d_loss, self.g_loss = (
            _compiled(function, "reduce-overhead" if on_cuda else None) for function in (G, d_loss, g_loss)
        )


def start_compiler(device: torch.device) -> None:
    """Compile a minimal function.

    So the modules that the compiler loads once in a process are charged to no implementation's
    compile time.
    """
    weight = torch.ones(4, device=device, requires_grad=True)
    torch.compile(torch.exp)(weight).sum().backward()


def _compiled(function: Callable[..., torch.Tensor], mode: str | None = None) -> Callable[..., torch.Tensor]:
    # G and D are nn.Sequential both: the compiler takes them for one function of several sizes, and
    # D would become a graph for any size.
    return torch.compile(function, mode=mode, dynamic=False)


def _cross_entropy(logits: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _seconds_of(step: Callable[[], object], num_steps: int) -> float:
    started = time.perf_counter()
    for _ in range(num_steps):
        step()
    timing.synchronize()
    return time.perf_counter() - started
