"""Construction of the engine from networks and a feed, for the trainer and the benchmarks."""
import dataclasses
from collections.abc import Callable
from functools import partial

import torch

from fastgan.config import Config
from fastgan.data import Feed
from fastgan.device.cuda_graphs import CudaGraphs
from fastgan.device.memory import keep_freed_memory
from fastgan.device.precision import Precision, full_precision
from fastgan.engine.captured import Graphs
from fastgan.engine.engine import Engine, Ladder, Phase, System
from fastgan.errors import UserError
from fastgan.gan.inputs import StepInputs
from fastgan.gan.phases import FUNCTIONS, READS_IMAGES, batches_per_step, phase_schedule_of, phases_of
from fastgan.gan.train_state import TrainState
from fastgan.nn.inspect_pair import Signature
from fastgan.run.sampler import draw_z


def make_engine(
    config: Config,
    signature: Signature,
    state: TrainState,
    feed: Feed,
    generator: torch.Generator,
    precision: Precision,
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
    phases = {name: _phase(name, inputs, state, precision) for name in phases_of(phase_schedule)}
    system = System(phases, state.tensors() | {"feed": feed.state()}, [generator], phase_schedule, state.counters)
    ladder = Ladder(run.compile, run.autotune, run.combo_kernels, run.cuda_graph, run.graph_steps, feed.max_steps)
    return Engine(system, ladder, graphs, report)


def _phase(name: str, inputs: "InputSource", state: TrainState, precision: Precision) -> Phase:
    """Make a phase in the precision of the run.

    Where the precision is a reduced one, the phase also has a step in fp32, and one with only its
    penalties in fp32.
    """
    is_reduced, has_penalty = (
        precision.compute_dtype != torch.float32,
        name != "G" and bool(state.grad_probes) or name == "G_penalty",
    )
    careful = dataclasses.replace(precision, careful=True)
    return Phase(
        draw=partial(inputs.draw, name),
        step=inputs.step(name, state, precision),
        precise_step=inputs.step(name, state, full_precision(precision)) if is_reduced else None,
        careful_step=inputs.step(name, state, careful) if is_reduced and has_penalty else None,
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
        self._loss, self._penalty, self._data, self._num = (
            config.loss,
            config.penalty,
            config.data,
            config.run.batch_size,
        )
        self._distribution, self._signature, self._feed, self._generator = (
            config.model.z_distribution,
            signature,
            feed,
            generator,
        )
        self._device, self._augmentation = generator.device, state.augmentation
        self._at_once = config.run.batch_gpu or self._num  # images
        self._gets_two_batches, self._is_conditional = batches_per_step(config) == 2, config.model.c_dim > 0

    def draw(self, phase: str) -> StepInputs:
        """Return the inputs of the next step of a phase, by work on the device alone."""
        has_D = phase in ("update", "D")
        inputs = (
            StepInputs()
            if self._feed.traceable or not self._needs_real(phase)
            else self._with_images(StepInputs(), phase)
        )
        if phase == "G_penalty":
            num = max(1, int(self._at_once * self._penalty.pl_batch))
            return inputs._replace(z=self._draw_z(num), path_noise=self._normal(num, *self._signature.img_shape))
        has_gradient_penalty = self._penalty.gp_weight and (
            phase == "D_penalty" or (has_D and self._penalty.D_every == 1)
        )
        return inputs._replace(
            z=self._draw_z(self._num),
            fresh_z=self._draw_z(self._num) if phase == "update" and self._loss.fresh_fakes else None,
            flips=self._uniform(2, self._num, 1) if has_D and self._loss.flip_labels else None,
            noise=self._normal(3, self._num, *self._signature.img_shape) if self._loss.instance_noise else None,
            mirror=self._uniform(self._num, 1, 1, 1) if self._data.mirror and self._needs_real(phase) else None,
            augment=self._uniform(3, self._num, self._augmentation.num_uniforms) if self._augmentation else None,
            between=self._uniform(self._num, 1, 1, 1) if has_gradient_penalty else None,
            margin=self._uniform(2, self._num, 1)
            if has_D and self._loss.name == "hinge" and self._loss.hinge_margin < 1
            else None,
        )

    def step(self, phase: str, state: TrainState, precision: Precision) -> Callable[[StepInputs], object]:
        """Return the phase as a function of its inputs."""
        function, reads_images = FUNCTIONS[phase], self._feed.traceable and self._needs_real(phase)

        def step(inputs: StepInputs) -> object:
            if reads_images and inputs.real_img is None:
                inputs = self._with_images(inputs, phase)
            return function(state, precision, inputs)

        return step

    def _needs_real(self, phase: str) -> bool:
        """Return True if a phase reads real images or their labels."""
        return (
            phase in (*READS_IMAGES, "D_penalty") or self._is_conditional or (phase == "G" and self._gets_two_batches)
        )

    def _with_images(self, inputs: StepInputs, phase: str) -> StepInputs:
        """Return inputs with the next batch, or the current batch again.

        READS_IMAGES reads the next batch; the other phases of the step read the same one again.
        """
        img, labels = self._feed.read() if phase in READS_IMAGES else self._feed.reread()
        if phase == "G_penalty":
            return inputs._replace(labels=None if labels is None else labels[:len(inputs.z)])
        if not self._gets_two_batches:
            return inputs._replace(real_img=img, labels=labels)
        d_labels, g_labels = (None, None) if labels is None else labels.split(self._num)
        if phase == "G":  # its fakes are of the classes of the images that they are compared with
            return inputs._replace(labels=g_labels, g_real_img=img[self._num:], g_labels=g_labels)
        inputs = inputs._replace(real_img=img[:self._num], labels=d_labels)
        return inputs if phase in ("D", "D_penalty") else inputs._replace(g_real_img=img[self._num:], g_labels=g_labels)

    def _draw_z(self, num: int) -> torch.Tensor:
        return draw_z(num, self._signature.z_shape, self._distribution, self._generator, self._device)

    def _uniform(self, *shape: int) -> torch.Tensor:
        """Return float32 in [0, 1)."""
        return torch.rand(*shape, generator=self._generator, device=self._device)

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator, device=self._device)
