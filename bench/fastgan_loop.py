"""fastgan's own step in the form of the peers: built from the same parts as the trainer builds it, without ticks and files."""
import torch

from fastgan import adapt, models
from fastgan.assembly import make_engine
from fastgan.config import Config
from fastgan.data import GaussianFeed, ResidentFeed
from fastgan.engine import Rung
from fastgan.networks import make_networks
from fastgan.precision import choose_precision


class FastganLoop:
    """G, D, their optimisers, the feed and the engine, as `config` has them. reasons: why a rung was left.

    images: uint8 [num_images, C, H, W] on the device, which the resident feed shuffles and gathers: part of the step here, where the peers are
    handed their batches. Of no account where the configuration's data are samples.
    """

    def __init__(self, config: Config, device: torch.device, images: torch.Tensor | None):
        model, num = config.model, config.run.batch_size
        G, D = models.build(model)
        signature = adapt.inspect(G.to(device), D.to(device), model.z_dim, num, device)
        generator = torch.Generator(device).manual_seed(0)
        if model.architecture == "samples":
            self.feed = GaussianFeed(config.data.mean, config.data.std, num, generator)
        else:
            self.feed = ResidentFeed(images.permute(0, 2, 3, 1), num, 0, device)
        self.networks = networks = make_networks(G, D, config, signature.img_shape, device, signature.one_pass)
        self.G, self.D = networks.G, networks.D
        self.precision = choose_precision(config.run.amp, device)
        self.reasons: list[str] = []
        self.engine = make_engine(config, signature, networks, self.feed, generator, self.precision, self.reasons.append)
        self._steps = 0

    @property
    def steps_per_call(self) -> int:
        """How many steps `run` makes."""
        return self.engine.rung.steps_per_launch

    def prepare(self) -> Rung:
        """Climb as the trainer does, before its first step."""
        return self.engine.prepare()

    def run(self) -> None:
        """One launch."""
        num = self.steps_per_call
        self.feed.reserve(num)
        self.engine.run(self._steps, num)
        self.feed.launched(num)
        self._steps += num
