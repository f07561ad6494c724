"""fastgan's own step in the form of the peers.

It is built from the same parts as the trainer builds it, without ticks and files.
"""
import math

import torch

from fastgan import models
from fastgan.bench import exclusive
from fastgan.bench.gpu import evidence
from fastgan.config import Config, replace
from fastgan.data import GaussianFeed, ResidentFeed
from fastgan.engine.system import Rung
from fastgan.gan.phases import batches_per_step
from fastgan.run.build import build_training


class FastganLoop:
    """G, D, their optimisers, the feed and the engine, as `config` has them.

    reasons: why a rung was left.

    images: uint8 [num_images, C, H, W] on the device, which the resident feed shuffles and gathers:
    part of the step here, where the peers are handed their batches. Ignored where the
    configuration's data are samples.
    """

    def __init__(self, config: Config, device: torch.device, images: torch.Tensor | None):
        self._config, num = replace(config, "run.device", str(device)), config.run.batch_size
        training = build_training(*models.build(config.model), self._config, config.model.z_dim)
        if config.model.architecture == "samples":
            self.feed = GaussianFeed(config.data.mean, config.data.std, num, training.generator)
        else:
            self.feed = ResidentFeed(images.permute(0, 2, 3, 1), num * batches_per_step(config), 0, device)
        self.state = training.state
        self.G, self.D, self.precision = training.state.G, training.state.D, training.state.precision
        self.reasons: list[str] = []
        self.tracebacks: list[str] = []
        exclusive.guard_timings()
        self.engine = training.engine_on(self.feed, self.reasons.append)
        self.engine.log.details = self.tracebacks.append
        phases = self.engine.system.phase_schedule
        # The number of the next step: a recipe's beginning is left out.
        self._step = math.ceil(phases.intro_steps / phases.period) * phases.period

    @property
    def steps_per_call(self) -> int:
        """Number of steps that `run` makes.

        It is a number of whole periods, so that every phase of the rhythm has its share of the
        steps.
        """
        return math.lcm(self.engine.system.phase_schedule.period, self.engine.rung.steps_per_launch)

    def prepare(self) -> Rung:
        """Climb the engine's ladder as the trainer does before its first step."""
        rung = self.engine.prepare()
        evidence.note_refusals(self._config, self.engine, self.reasons, self.tracebacks)
        return rung

    def run(self) -> None:
        """Run a period of steps, or a launch where that is longer."""
        end = self._step + self.steps_per_call
        while self._step < end:
            num = self.engine.steps_at_once(self._step, end - self._step)
            self.feed.reserve(num)
            self.engine.run(self._step, num)
            self.feed.launched(num)
            self._step += num
