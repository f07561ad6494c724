"""The baseline loops that a configuration can be compared with."""
from fastgan.bench.peers.networks import BUILDERS
from fastgan.bench.peers.plain import PlainLoop
from fastgan.bench.peers.plain_r3gan import PlainR3gan
from fastgan.bench.peers.plain_stylegan2 import PlainStylegan2
from fastgan.bench.peers.plain_wgan_gp import PlainWganGp
from fastgan.config import Config, LossConfig, PenaltyConfig


def plain_loop(config: Config) -> type | None:
    """Return the class of the plain loop of a recipe; None where nobody has written it.

    It is called with a configuration and a device.
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
    """Return True where the configuration is a recipe of the tutorials.

    The accelerated loop implements those as well.
    """
    plain = LossConfig(fresh_fakes=config.loss.fresh_fakes), PenaltyConfig()
    return config.model.architecture in BUILDERS and not config.model.cond and (config.loss, config.penalty) == plain
