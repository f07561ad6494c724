"""The train state, and its construction from G, D and a configuration.

It holds both networks, their optimisers, the moving average, the schedules and the statistics.
"""
from dataclasses import dataclass, field

import torch
from torch import nn

from fastgan.augment.pipeline import Augmentation, make_augmentation
from fastgan.config import Config, LossConfig, OptimConfig, PenaltyConfig, value_of
from fastgan.device.precision import Precision
from fastgan.engine.batchnorm_counters import BatchCounters
from fastgan.gan.losses import OwnLosses
from fastgan.gan.optim import Adam, Average, Optimizer, beta_for, make_average, make_optimizer
from fastgan.gan.own import NOTHING, Own
from fastgan.gan.schedules import HalfLife, Ramp, Schedules, Traced
from fastgan.gan.statistics import ALWAYS, Totals
from fastgan.nn.noise import GaussianNoise
from fastgan.nn.pair.calls import Calls
from fastgan.nn.pair.inspect_pair import Signature
from fastgan.nn.pair.prepare import set_training, to_format

GAMMAS = ("penalty.r1_gamma", "penalty.r2_gamma")  # which gamma_end anneals


@dataclass(frozen=True)
class TrainState:
    """The state that a step reads and updates in place."""

    G: nn.Module
    D: nn.Module
    G_ema: nn.Module  # for samples: the moving average of G, or G itself where there is none
    optimizer_G: Optimizer
    optimizer_D: Optimizer
    average: Average | None
    nimg: torch.Tensor  # int64 []: images shown so far, counted where the step depends on it
    totals: Totals  # of the steps of a tick
    img_shape: tuple[int, ...]  # of one image, as G makes it
    precision: Precision  # of the passes of G and D
    img_low: float = -1.0  # value of a black pixel
    # D compares no images except in layers that can keep real and fake apart: they share one pass
    one_pass: bool = False
    loss: LossConfig = field(default_factory=LossConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    counters: BatchCounters = field(default_factory=lambda: BatchCounters([]))
    schedules: Schedules = field(default_factory=Schedules)
    grad_clip: float = 0.0  # upper limit of the norm of a network's gradients; 0 = none
    num_parts: int = 1  # number of parts that a batch is computed in
    c_dim: int = 0  # number of classes; 0 = unconditional
    calls: Calls = field(default_factory=Calls)  # how G and D are called
    memory_format: torch.memory_format = torch.channels_last  # of images and of convolution weights
    augmentation: Augmentation | None = None
    own_losses: OwnLosses | None = None  # a caller's, in the place of the named one
    scheduled: dict[str, torch.Tensor] = field(default_factory=dict)  # float32 []: weights that change
    path_mean: torch.Tensor | None = None  # float32 []: running mean of the path lengths
    grad_probes: dict[int, torch.Tensor] = field(default_factory=dict)  # number of images -> zeros that require grad

    @property
    def counts_images(self) -> bool:
        """True where something in the step depends on `nimg`."""
        return len(self.schedules) > 0 or (self.loss.instance_noise > 0 and self.loss.instance_noise_kimg > 0)

    @property
    def is_conditional(self) -> bool:
        return self.c_dim > 0

    @property
    def num_classified(self) -> int:
        """Number of classes of D's auxiliary classifier, 0 without one."""
        return self.c_dim if self.loss.class_D or self.loss.class_G else 0

    def weight(self, key: str) -> torch.Tensor | float:
        """Return the weight of a term, an option of loss or penalty: as it is now, if it changes."""
        section, name = key.split(".")
        return self.scheduled[key] if key in self.scheduled else getattr(getattr(self, section), name)

    def grad_probe(self, num: int) -> torch.Tensor:
        """Return the gradient probe of `num` images: zeros that require grad (penalties.py)."""
        return self.grad_probes[num]

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return every tensor that a step changes: group -> name -> tensor.

        Groups of parameters are named G, D, G_ema.
        """
        groups = {
            "G": dict(self.G.named_parameters()),
            "D": dict(self.D.named_parameters()),
            "G buffers": dict(self.G.named_buffers()),
            "D buffers": dict(self.D.named_buffers()),
            "optimizer_G": self.optimizer_G.state(),
            "optimizer_D": self.optimizer_D.state(),
            "clock": {"nimg": self.nimg},
            "totals": {"totals": self.totals.tensor},
        }
        if self.average is not None:
            groups |= {"G_ema": dict(self.G_ema.named_parameters()), "G_ema buffers": dict(self.G_ema.named_buffers())}
        if self.augmentation is not None and self.augmentation.state():
            groups["augmentation"] = self.augmentation.state()
        if self.path_mean is not None:
            groups["path length"] = {"mean": self.path_mean}
        return groups


    def weights(self) -> dict[str, torch.Tensor]:
        """Return the tensors of a snapshot: weights and buffers of G, D and, if there is one, G_ema."""
        named = {"G": self.G, "D": self.D} | ({} if self.average is None else {"G_ema": self.G_ema})
        return {
            f"{prefix}.{name}": tensor for prefix, net in named.items() for name, tensor in net.state_dict().items()
        }


def make_train_state(
    G: nn.Module,
    D: nn.Module,
    config: Config,
    signature: Signature,
    device: torch.device,
    precision: Precision,
    own: Own = NOTHING,
) -> TrainState:
    """Make the train state of G and D on `device`, as configured; G and D are moved in place.

    Convolution weights are in the signature's memory format. signature: as inspect_pair.inspect finds
    it. own: what the caller gives beside the configuration.
    """
    optim, penalty, batch_size = config.optim, config.penalty, config.run.batch_size
    img_shape, one_pass = signature.img_shape, signature.one_pass
    for network in (G, D):
        set_training(to_format(network.to(device), signature.memory_format))
    G_ema = G if optim.ema_kimg is None else make_average(G)
    counters = BatchCounters([G, D], copies=[] if G_ema is G else [(G, G_ema)])
    per_update = batch_size * config.loss.n_critic  # images between two updates of G
    average = (
        None
        if optim.ema_kimg is None
        else Average(
            G, G_ema, beta_for(per_update, optim.ema_kimg), counters.copies(), optim.ema_buffers == "average"
        )
    )
    num_parts = batch_size // (config.run.batch_gpu or batch_size)
    correction_G, correction_D = _corrections(penalty)
    state = TrainState(
        G,
        D,
        G_ema,
        optimizer_G=_optimizer_for(G, optim, optim.name, optim.lr_G, correction_G, average),
        optimizer_D=_optimizer_for(D, optim, optim.name_D or optim.name, optim.lr_D, correction_D),
        average=average,
        nimg=torch.zeros((), dtype=torch.int64, device=device),
        totals=Totals(_statistics_of(config), device),
        img_shape=img_shape,
        precision=precision,
        img_low=config.model.img_low,
        one_pass=one_pass,
        loss=config.loss,
        penalty=penalty,
        counters=counters,
        grad_clip=optim.grad_clip,
        num_parts=num_parts,
        c_dim=config.model.c_dim,
        calls=signature.calls,
        memory_format=signature.memory_format,
        augmentation=make_augmentation(config.augment, device, num_parts),
        own_losses=own.losses,
        scheduled=_scheduled_weights(config, own, device),
        path_mean=torch.zeros((), device=device) if penalty.pl_weight else None,
        grad_probes=_probes(config, img_shape, batch_size // num_parts, one_pass, device),
    )
    _add_schedules(state, config, per_update)
    _follow_functions(state, config, own)
    _anneal_noise(state)
    return state


def _scheduled_weights(config: Config, own: Own, device: torch.device) -> dict[str, torch.Tensor]:
    """Make the tensors of the weights that change during training, by option."""
    keys = [key for key in own.schedules if not key.startswith("optim.")]
    keys += GAMMAS if config.penalty.gamma_end != 1 else ()
    return {key: torch.tensor(float(value_of(config, key)), device=device) for key in keys}


def _corrections(penalty: PenaltyConfig) -> tuple[float, float]:
    """Return c = k / (k + 1) for G and for D, or 1 for a network without lazy penalties.

    k is the number of ordinary updates between two updates of a penalty alone. Adam then takes
    k + 1 steps for k, and its hyperparameters are those of a smaller step: lr * c, beta ** c
    (Karras et al., 2020, arXiv 1912.04958, appendix B).
    """
    lazy = (
        penalty.G_reg_interval if penalty.pl_weight else 0,
        penalty.D_reg_interval if penalty.D_reg_interval > 1 and _has_penalty(penalty) else 0,
    )
    return tuple(every / (every + 1) if every else 1.0 for every in lazy)


def _optimizer_for(
    network: nn.Module, optim: OptimConfig, name: str, lr: float, correction: float, average: Average | None = None
) -> Optimizer:
    """Make an optimiser of the trained parameters. correction: see _corrections.

    Adam updates the moving average in the same pass over memory.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(name, trained, lr, optim, correction)
    if average is not None and isinstance(optimizer, Adam):
        optimizer.take_average(average.hand_over(trained), average.beta)
    return optimizer


def _has_penalty(penalty: PenaltyConfig) -> bool:
    return penalty.gp_weight > 0 or penalty.r1_gamma > 0 or penalty.r2_gamma > 0


def _probes(
    config: Config, img_shape: tuple[int, ...], num: int, one_pass: bool, device: torch.device
) -> dict[int, torch.Tensor]:
    """Make the gradient probes, by number of images, in the memory format of images.

    They cover the numbers of images that penalties are computed for at once.
    """
    if not _has_penalty(config.penalty):
        return {}
    memory_format = torch.channels_last if len(img_shape) == 3 else torch.contiguous_format
    return {count: torch.zeros_like(torch.empty(count, *img_shape, device=device),
                                    memory_format=memory_format, requires_grad=True)
            for count in ((num, 2 * num) if one_pass else (num,))}  # fmt: skip


def _statistics_of(config: Config) -> tuple[str, ...]:
    """Return the names of the statistics that the steps of this configuration record."""
    penalty, loss = config.penalty, config.loss
    also = {
        "gradient_penalty": penalty.gp_weight, "r1_penalty": penalty.r1_gamma, "r2_penalty": penalty.r2_gamma,
        "path_length": penalty.pl_weight,
        "class_loss": loss.class_D, "class_loss_fake": loss.class_G, "reconstruction_loss": loss.reconstruction,
        "augment_p": config.augment.kind == "ada",
    }  # fmt: skip
    return (*ALWAYS, *(name for name, used in also.items() if used))


def _add_schedules(state: TrainState, config: Config, per_update: int) -> None:
    """Add the schedules of every value that follows the number of images shown."""
    optim, augment = config.optim, config.augment
    shape = "linear" if optim.decay == "none" else optim.decay
    if optim.decay != "none" or optim.warmup_kimg:
        end = optim.lr_end if optim.decay != "none" else 1.0
        for optimizer in (state.optimizer_G, state.optimizer_D):
            lr = optimizer.lr.item()
            state.schedules.add(optimizer.lr, Ramp(lr, lr * end, optim.decay_kimg, shape, optim.warmup_kimg))
    if optim.beta2_end is not None:
        for optimizer, correction in zip(
            (state.optimizer_G, state.optimizer_D), _corrections(config.penalty), strict=True
        ):
            state.schedules.add(
                optimizer.beta2, Ramp(optim.beta2**correction, optim.beta2_end**correction, optim.decay_kimg, shape)
            )
    if state.average is not None and (optim.ema_start_kimg is not None or optim.ema_rampup is not None):
        start = optim.ema_start_kimg
        kimg = optim.ema_kimg if start is None else Ramp(start, optim.ema_kimg, optim.decay_kimg, shape)
        state.schedules.add(state.average.beta, HalfLife(kimg, per_update, optim.ema_rampup))
    if config.penalty.gamma_end != 1:
        for key in GAMMAS:
            gamma = value_of(config, key)
            end = gamma * config.penalty.gamma_end
            state.schedules.add(state.scheduled[key], Ramp(gamma, end, optim.decay_kimg, shape))
    if state.augmentation is not None and augment.p_end is not None:
        state.schedules.add(state.augmentation.p, Ramp(augment.p, augment.p_end, optim.decay_kimg, shape))


def _follow_functions(state: TrainState, config: Config, own: Own) -> None:
    """Add the caller's own schedules."""
    correction_G, correction_D = _corrections(config.penalty)
    rates = {"optim.lr_G": (state.optimizer_G.lr, correction_G), "optim.lr_D": (state.optimizer_D.lr, correction_D)}
    for key, function in own.schedules.items():
        target, correction = rates[key] if key in rates else (state.scheduled[key], 1.0)
        state.schedules.add(target, Traced(function, correction))


def _anneal_noise(state: TrainState) -> None:
    """Let the noise inside of the networks fall as its layers ask for."""
    for layer in (*state.G.modules(), *state.D.modules()):
        if isinstance(layer, GaussianNoise) and layer.kimg:
            state.schedules.add(layer.scale, Ramp(1.0, 0.0, layer.kimg))
