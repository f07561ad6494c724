"""Samples of the networks of a step of one's own."""
import contextlib
from collections.abc import Callable

import torch

from fastgan.errors import UserError
from fastgan.nn.pair.inspect_pair import untouched
from fastgan.run.sampler import evaluating
from fastgan.training.draws import RecordingDraw
from fastgan.training.own_state import StepState

Sample = Callable[..., torch.Tensor]  # (nets, draw) -> samples


class StepSampler:
    """Runs the user's `sample` with moving averages, in evaluation mode, without a trace in training.

    seed: of the run; pictures of a run have the same random numbers at every tick.
    """

    columns = None

    def __init__(self, sample: Sample, state: StepState, device: torch.device, seed: int):
        self._sample, self._state, self._device, self._seed = sample, state, device, seed

    def grid(self) -> torch.Tensor:
        """Return the samples of the run's seed."""
        return self.sample(self._seed)

    def makes_images(self) -> bool:
        """Return True if samples are images [num, C, H, W] of 1 or 3 channels."""
        samples = self.grid()
        return samples.dim() == 4 and samples.shape[1] in (1, 3)

    @torch.no_grad()
    def sample(self, seed: int | None = None) -> torch.Tensor:
        """Return float32 samples on the device. seed: None = fresh randomness."""
        generator = torch.Generator(self._device)
        generator.seed() if seed is None else generator.manual_seed(seed)
        draw = RecordingDraw(generator, self._state.nimg.float() / 1000)
        with untouched(), evaluating(self._state.sampled), self._autocast():
            torch.manual_seed(generator.initial_seed())  # for what networks draw by themselves
            samples = self._sample(self._state.sampled, draw)
        if not isinstance(samples, torch.Tensor):
            raise UserError(f"sample returns a {type(samples).__name__}: let it return one tensor")
        return samples.float()

    def _autocast(self) -> contextlib.AbstractContextManager:
        return self._state.precision.autocast()
