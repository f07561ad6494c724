"""Which loops there are to compare a configuration with."""
from bench.peers.networks import BUILDERS
from bench.peers.plain import PlainLoop
from bench.peers.plain_r3gan import PlainR3gan
from bench.peers.plain_stylegan2 import PlainStylegan2
from bench.peers.plain_wgan_gp import PlainWganGp
from fastgan.config import Config, LossConfig, PenaltyConfig


def plain_loop(config: Config) -> type | None:
    """The class of the plain loop of a recipe, to be called with a configuration and a device; None
    where nobody has written it.
    """
    loss, penalty = config.loss, config.penalty
    if config.model.cond or config.augment.kind != "none":
        return None
    if has_accelerated(config):
        return PlainLoop
    if loss.name == "relativistic":
        return PlainR3gan
    if penalty.pl_weight:
        return PlainStylegan2
    return PlainWganGp if loss.name == "wasserstein" and penalty.gp_weight else None


def has_accelerated(config: Config) -> bool:
    """Whether the configuration is a recipe of the tutorials, which the accelerated loop knows as
    well.
    """
    plain = LossConfig(fresh_fakes=config.loss.fresh_fakes), PenaltyConfig()
    return config.model.architecture in BUILDERS and not config.model.cond and (config.loss, config.penalty) == plain
