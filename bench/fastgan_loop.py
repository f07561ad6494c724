"""fastgan's own step in the form of the peers: built from the same parts as the trainer builds it, without feed, ticks and files."""
import torch

from fastgan import adapt, models
from fastgan.config import Config
from fastgan.engine import Engine, Rung
from fastgan.networks import make_networks
from fastgan.parity import PARITY_STEPS
from fastgan.precision import choose_precision, full_precision
from fastgan.sample import draw_z
from fastgan.step import StepInputs, gan_step


class FastganLoop:
    """G, D, their optimisers and the engine. draw_z: as in the peers' loops.

    amp: bf16 where the chip has it. compile: climb the engine's ladder in `prepare`, else stay eager. reasons: why a rung was left.
    """

    def __init__(self, config: Config, device: torch.device, amp: bool, compile: bool):
        model, num = config.model, config.run.batch_size
        G, D = models.build(model)
        signature = adapt.inspect(G.to(device), D.to(device), model.z_dim, num, device)
        networks = make_networks(G, D, config, signature.one_pass, device)
        self.G, self.D, self.fresh_fakes = networks.G, networks.D, config.loss.fresh_fakes
        self.precision = precision = choose_precision(amp, device)
        generator = torch.Generator(device).manual_seed(0)
        self.draw_z = lambda: draw_z(num, signature.z_shape, model.z_distribution, generator, device)
        precise = full_precision(precision)

        def step(inputs: StepInputs) -> torch.Tensor:
            return gan_step(networks, precision, inputs)

        def precise_step(inputs: StepInputs) -> torch.Tensor:
            return gan_step(networks, precise, inputs)

        reduced = precision.compute_dtype != torch.float32
        self.reasons: list[str] = []
        self.engine = Engine(step, networks.state(), compile, precise_step if reduced else None, self.reasons.append)

    def prepare(self, real_img: torch.Tensor) -> Rung:
        """Climb as the trainer does, before its first step."""
        return self.engine.prepare([(self._inputs(real_img),) for _ in range(PARITY_STEPS)])

    def step(self, real_img: torch.Tensor) -> torch.Tensor:
        """One update on uint8 real_img [N, C, H, W], or float samples [N, 1]. Returns the statistics, on the device."""
        return self.engine.run(self._inputs(real_img))

    def _inputs(self, real_img: torch.Tensor) -> StepInputs:
        return StepInputs(real_img, self.draw_z(), self.draw_z() if self.fresh_fakes else None)
