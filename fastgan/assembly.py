"""From networks and a feed to an engine: what the trainer and the benchmarks share."""
from collections.abc import Callable

import torch

from fastgan.adapt import Signature
from fastgan.capture import Graphs
from fastgan.config import Config
from fastgan.cuda_graphs import CudaGraphs
from fastgan.data import Feed
from fastgan.engine import Engine, Ladder, System
from fastgan.errors import UserError
from fastgan.networks import Networks
from fastgan.precision import Precision, full_precision
from fastgan.sample import draw_z
from fastgan.step import StepInputs, gan_step


def make_engine(
    config: Config,
    signature: Signature,
    networks: Networks,
    feed: Feed,
    generator: torch.Generator,
    precision: Precision,
    report: Callable[[str], None],
) -> Engine:
    """The engine of a run. generator: what all random numbers of the steps come from, on the device. report: see Engine.

    Raises UserError where CUDA graphs are asked for and the device has none.
    """
    device, run = generator.device, config.run
    graphs = _graphs_of(device, [generator])
    if graphs is None and run.cuda_graph == "on":
        raise UserError(f"--cuda-graph on needs a CUDA device, and this run is on {device.type}: leave it at auto, or give --device cuda")
    inputs = InputSource(config, signature, feed, generator)
    system = System(
        draw=inputs.draw,
        steps={(): inputs.step(networks, precision)},
        state=networks.state() | {"feed": feed.state()},
        generators=[generator],
        precise_steps=None if precision.compute_dtype == torch.float32 else {(): inputs.step(networks, full_precision(precision))},
        counters=networks.counters,
    )
    ladder = Ladder(run.compile, run.autotune, run.cuda_graph, run.graph_steps, feed.max_steps)
    return Engine(system, ladder, graphs, report)


def _graphs_of(device: torch.device, generators: list[torch.Generator]) -> Graphs | None:
    """What records on this device, or None."""
    return CudaGraphs(device, generators) if device.type == "cuda" else None


class InputSource:
    """What a step reads and does not change: the next real images, and every random number of the step from the run's own generator.

    Where the feed allows it, the step itself reads the images, which lets the compiler make one loop of gathering and normalising them: on two CPU
    cores the mlp step takes 0.965 (0.934-0.987) times as long as with images that were gathered before, the dcgan step the same.
    """

    def __init__(self, config: Config, signature: Signature, feed: Feed, generator: torch.Generator):
        self._loss, self._data, self._num = config.loss, config.data, config.run.batch_size
        self._distribution, self._signature, self._feed, self._generator = config.model.z_distribution, signature, feed, generator
        self._device = generator.device

    def draw(self) -> StepInputs:
        """The inputs of the next step, by work on the device alone."""
        real_img = None if self._feed.traceable else self._feed.read().img
        z = self._draw_z()
        fresh_z = self._draw_z() if self._loss.fresh_fakes else None
        flips = self._uniform(2, self._num, 1) if self._loss.flip_labels else None
        noise = None
        if self._loss.instance_noise:
            noise = torch.randn(3, self._num, *self._signature.img_shape, generator=self._generator, device=self._device)
        mirror = self._uniform(self._num, 1, 1, 1) if self._data.mirror else None
        return StepInputs(real_img, z, fresh_z, flips, noise, mirror)

    def step(self, networks: Networks, precision: Precision) -> Callable[[StepInputs], torch.Tensor]:
        """The update as a function of its inputs."""
        feed = self._feed

        def step(inputs: StepInputs) -> torch.Tensor:
            if inputs.real_img is None:
                inputs = inputs._replace(real_img=feed.read().img)
            return gan_step(networks, precision, inputs)

        return step

    def _draw_z(self) -> torch.Tensor:
        return draw_z(self._num, self._signature.z_shape, self._distribution, self._generator, self._device)

    def _uniform(self, *shape: int) -> torch.Tensor:
        """float32 in [0, 1)."""
        return torch.rand(*shape, generator=self._generator, device=self._device)
