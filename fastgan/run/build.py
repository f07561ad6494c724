"""Construction of a training: networks, their state, and the engine of its steps.

The trainer and the benchmarks build by the same functions.
"""
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from fastgan.config import Config
from fastgan.data import Feed
from fastgan.device.cuda_graphs import CudaGraphs
from fastgan.device.determinism import settle_algorithms
from fastgan.device.memory import keep_freed_memory
from fastgan.device.precision import choose_precision, full_precision
from fastgan.engine.captured import Graphs
from fastgan.engine.engine import Engine
from fastgan.engine.system import Ladder, Phase, System
from fastgan.errors import UserError
from fastgan.gan.inputs import StepInputs
from fastgan.gan.phases import PHASES, PhaseKind, batches_per_step, phase_schedule_of, phases_of
from fastgan.gan.train_state import TrainState, make_train_state
from fastgan.nn import inspect_pair
from fastgan.nn.inspect_pair import Signature
from fastgan.run.sampler import draw_z


@dataclass(frozen=True)
class Training:
    """The parts of a training besides its data.

    generator: the source of all random numbers of the steps, on the device. notes: for the user.
    """

    config: Config
    device: torch.device
    signature: Signature
    state: TrainState
    generator: torch.Generator
    notes: tuple[str, ...]

    def engine_on(self, feed: Feed, report: Callable[[str], None]) -> Engine:
        """Return the engine of the steps that take their images from `feed`. report: see Engine."""
        return make_engine(self.config, self.signature, self.state, feed, self.generator, report)


def build_training(G: nn.Module, D: nn.Module, config: Config, z_dim: int | None = None) -> Training:
    """Inspect G and D, move them to the device of the run, and make their train state.

    This sets torch's process-wide switches as the configuration asks: algorithms, precision of fp32
    products, and on CUDA the current device. z_dim: None = read off G. Raises UserError for a
    device that is not there and for networks that cannot be trained.
    """
    run = config.run
    device = torch.device(run.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision = choose_precision(run.amp, device)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # kernels that Triton launches, and figures of memory, mean the current one
    algorithms = filter(None, [settle_algorithms(run.deterministic, device)])
    signature = _inspect(G, D, config, z_dim, device)
    return Training(
        config,
        device,
        signature,
        make_train_state(G, D, config, signature, device, precision),
        torch.Generator(device).manual_seed(run.seed),
        (*signature.notes, precision.describe(), *algorithms),
    )


def _inspect(G: nn.Module, D: nn.Module, config: Config, z_dim: int | None, device: torch.device) -> Signature:
    at_once = config.run.batch_gpu or config.run.batch_size
    classifies = config.loss.class_D > 0
    signature = inspect_pair.inspect(G, D, z_dim, at_once, device, config.model.c_dim, classifies)
    if config.loss.flip_labels and signature.num_judged != at_once:
        raise UserError(
            f"flip_labels is for labels of images, and D gives {signature.num_judged} judgements for {at_once} of them"
        )
    return signature


def make_engine(
    config: Config,
    signature: Signature,
    state: TrainState,
    feed: Feed,
    generator: torch.Generator,
    report: Callable[[str], None],
) -> Engine:
    """Make the engine of a run.

    generator: the source of all random numbers of the steps, on the device. report: see Engine. On
    a CPU the process keeps the memory that it frees from now on (memory.py). Raises UserError where
    CUDA graphs are asked for and the device has none.
    """
    device, run = generator.device, config.run
    if device.type == "cpu":
        keep_freed_memory()
    graphs = _graphs_of(device, [generator])
    if graphs is None and run.cuda_graph == "on":
        raise UserError(
            f"--cuda-graph on needs a CUDA device, and this run is on {device.type}: leave it at auto, or give "
            "--device cuda"
        )
    inputs, phase_schedule = InputSource(config, signature, state, feed, generator), phase_schedule_of(config)
    phases = {name: _phase(PHASES[name], inputs, state) for name in phases_of(phase_schedule)}
    system = System(phases, state.tensors() | {"feed": feed.state()}, [generator], phase_schedule, state.counters)
    ladder = Ladder(run.compile, run.autotune, run.combo_kernels, run.cuda_graph, run.graph_steps, feed.max_steps)
    return Engine(system, ladder, graphs, report)


def _phase(kind: PhaseKind, inputs: "InputSource", state: TrainState) -> Phase:
    """Make a phase in the precision of the run.

    Where the precision is a reduced one, the phase also has a step in fp32, and one with only its
    penalties in fp32.
    """
    precision = state.precision
    is_reduced = precision.compute_dtype != torch.float32
    has_penalty = kind.path_length or (kind.has_d_penalty and bool(state.grad_probes))
    precise = dataclasses.replace(state, precision=full_precision(precision))
    careful = dataclasses.replace(state, precision=dataclasses.replace(precision, careful=True))
    return Phase(
        draw=partial(inputs.draw, kind),
        step=inputs.step(kind, state),
        precise_step=inputs.step(kind, precise) if is_reduced else None,
        careful_step=inputs.step(kind, careful) if is_reduced and has_penalty else None,
    )


def _graphs_of(device: torch.device, generators: list[torch.Generator]) -> Graphs | None:
    """Return the recorder of graphs on this device, or None."""
    return CudaGraphs(device, generators) if device.type == "cuda" else None


class InputSource:
    """The inputs of the phases: real images, and random numbers from the run's own generator.

    Where the feed allows it, the step itself reads the images, which lets the compiler make one
    loop of gathering and normalising them: on two CPU cores the mlp step takes 0.965 (0.934-0.987)
    times as long as with images that were gathered before, the dcgan step the same.
    """

    def __init__(self, config: Config, signature: Signature, state: TrainState, feed: Feed, generator: torch.Generator):
        self._loss, self._penalty, self._mirror = config.loss, config.penalty, config.data.mirror
        self._num, self._at_once = config.run.batch_size, config.run.batch_gpu or config.run.batch_size  # images
        self._distribution, self._img_shape, self._z_shape = (
            config.model.z_distribution,
            signature.img_shape,
            signature.z_shape,
        )
        self._feed, self._generator, self._device = feed, generator, generator.device
        self._augmentation = state.augmentation
        self._gets_two_batches, self._is_conditional = batches_per_step(config) == 2, config.model.c_dim > 0

    def draw(self, kind: PhaseKind) -> StepInputs:
        """Return the inputs of the next step of a phase, by work on the device alone."""
        reads_itself = self._feed.traceable or not self._needs_real(kind)
        inputs = StepInputs() if reads_itself else self._with_images(StepInputs(), kind)
        return self._draw_for_path_length(inputs) if kind.path_length else self._draw_for_losses(inputs, kind)

    def _draw_for_path_length(self, inputs: StepInputs) -> StepInputs:
        num = max(1, int(self._at_once * self._penalty.pl_batch_fraction))
        return inputs._replace(z=self._draw_z(num), path_noise=self._normal(num, *self._img_shape))

    def _draw_for_losses(self, inputs: StepInputs, kind: PhaseKind) -> StepInputs:
        num, loss = self._num, self._loss
        has_fresh_z = kind.d_loss and kind.g_loss and loss.fresh_fakes
        is_mirrored = self._mirror and self._needs_real(kind)
        is_penalised = kind.d_penalty or (kind.d_loss and self._penalty.D_reg_interval == 1)
        has_margin = kind.d_loss and loss.name == "hinge" and loss.hinge_margin < 1
        # In this order: a resumed run of an older version draws the same numbers.
        return inputs._replace(
            z=self._draw_z(num),
            fresh_z=self._draw_z(num) if has_fresh_z else None,
            flips=self._uniform(2, num, 1) if kind.d_loss and loss.flip_labels else None,
            noise=self._normal(3, num, *self._img_shape) if loss.instance_noise else None,
            mirror=self._uniform(num, 1, 1, 1) if is_mirrored else None,
            augment=self._uniform(3, num, self._augmentation.num_uniforms) if self._augmentation else None,
            between=self._uniform(num, 1, 1, 1) if is_penalised and self._penalty.gp_weight else None,
            margin=self._uniform(2, num, 1) if has_margin else None,
        )

    def step(self, kind: PhaseKind, state: TrainState) -> Callable[[StepInputs], object]:
        """Return the phase as a function of its inputs."""
        function, reads_images = kind.function, self._feed.traceable and self._needs_real(kind)

        def step(inputs: StepInputs) -> object:
            if reads_images and inputs.real_img is None:
                inputs = self._with_images(inputs, kind)
            return function(state, inputs)

        return step

    def _needs_real(self, kind: PhaseKind) -> bool:
        """Return True if a phase reads real images or their labels."""
        return kind.has_d_penalty or self._is_conditional or (kind.g_loss and self._gets_two_batches)

    def _with_images(self, inputs: StepInputs, kind: PhaseKind) -> StepInputs:
        """Return inputs with the next batch, or with the one that an earlier phase of the step read."""
        img, labels, _ = self._feed.read() if kind.reads_next else self._feed.reread()
        if kind.path_length:
            return inputs._replace(labels=None if labels is None else labels[:len(inputs.z)])
        if not self._gets_two_batches:
            return inputs._replace(real_img=img, labels=labels)
        # The first half is D's. G's fakes are of the classes of the images that they are compared with.
        d_labels, g_labels = (None, None) if labels is None else labels.split(self._num)
        if kind.g_loss:
            inputs = inputs._replace(labels=g_labels, g_real_img=img[self._num:], g_labels=g_labels)
        return inputs._replace(real_img=img[:self._num], labels=d_labels) if kind.has_d_penalty else inputs

    def _draw_z(self, num: int) -> torch.Tensor:
        return draw_z(num, self._z_shape, self._distribution, self._generator, self._device)

    def _uniform(self, *shape: int) -> torch.Tensor:
        """Return float32 in [0, 1)."""
        return torch.rand(*shape, generator=self._generator, device=self._device)

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator, device=self._device)
