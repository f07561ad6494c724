"""Every option of a run: its type, default, help, allowed values, architectures and flag, in one place.

Validation, the flags of `fastgan train`, --dry-run, the sentences of errors, the arguments of
Trainer and docs/options.md follow from these fields. A section is flat, so that
`--set SECTION.NAME=VALUE` reaches everything and `training_options.json` reads like the command line.
"""
import dataclasses
from dataclasses import dataclass, field

from fastgan.config.option import (
    ABOVE_0,
    ABOVE_0_TO_1,
    FINITE,
    FROM_0,
    FROM_0_BELOW_1,
    FROM_0_TO_1,
    SEED,
    Option,
    option,
)

DCGAN_RESOLUTIONS = (16, 32, 64, 128)
SET_SIZE = 100  # samples that D of the 1-D GAN sees together
DENSITIES = ("gaussian", "ring8", "grid25")  # sources whose samples are numbers, drawn as they are needed
NORMS = ("batch", "instance", "layer", "none", "spectral", "weight")
ACTIVATIONS = ("relu", "leaky_relu", "elu")
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd", "lion")
# Architectures by what they have in common.
PYRAMIDS, PERCEPTRONS = ("dcgan", "conv", "resnet", "resnet-stem", "biggan"), ("mlp", "samples", "points")
STYLEGAN2, R3GAN, BIGGAN = ("stylegan2",), ("r3gan",), ("biggan",)
# Headings of the flags of `fastgan train`.
WHAT, LENGTH, SPEED, RUN = "what is trained", "how long (one of them; default: the preset's)", "how fast", "the run"


# fmt: off
@dataclass(frozen=True)
class ModelConfig:
    """The two networks. Sizes that a preset does not fix come from the data (None)."""

    architecture: str = option("dcgan",
        "networks by name; samples: for a 1-D density; points: for a 2-D one; custom: a user's own, from Python",
        choices=("dcgan", "mlp", "samples", "points", "resnet", "resnet-stem", "conv", "biggan", "stylegan2",
            "lightweight", "r3gan", "custom"))
    z_dim: int = option(100, "length of z", ABOVE_0)
    z_distribution: str = option("normal", "of z: N(0,1), U(-1,1) or U(0,1)",
        choices=("normal", "uniform", "unit_uniform"))
    img_resolution: int | None = option(None, "side of the images in pixels; none = the data's, at most 64", ABOVE_0,
        flag="--resolution", group=WHAT, metavar="PIXELS")
    img_channels: int | None = option(None, "channels of the images; none = the data's", choices=(None, 1, 3, 4),
        flag="--channels", group=WHAT)
    img_low: float = option(-1.0,
        "value of a black pixel inside the networks; white is 1; 0 for mlp without classes, and custom",
        choices=(-1, 0))
    ngf: int = option(64,
        "channels of G's last hidden layer, doubled at every halving (dcgan, conv), or of its blocks (see taper)",
        ABOVE_0, used_by=PYRAMIDS)
    ndf: int = option(64, "the same of D", ABOVE_0, used_by=PYRAMIDS)
    taper: bool = option(False,
        "double the channels at every halving, up to 16 times, instead of the same in all blocks",
        used_by=("resnet", "biggan"))
    G_norm: str = option("batch", "normalisation of G", choices=NORMS, used_by=("dcgan",))
    D_norm: str = option("batch",
        "normalisation of D; of resnet all but weight, of resnet-stem all but weight and spectral", choices=NORMS,
        used_by=("dcgan", "resnet", "resnet-stem"))
    D_noise: float = option(0.0, "standard deviation of the Gaussian noise on the inputs of D's inner layers", FROM_0,
        used_by=("dcgan", *PERCEPTRONS))
    D_noise_kimg: float = option(0.0, "kimg over which that noise falls linearly to 0; 0 = constant", FROM_0,
        used_by=("dcgan", *PERCEPTRONS))
    G_hidden: tuple[int, ...] = option((256,), "widths of G's hidden layers", ABOVE_0, used_by=PERCEPTRONS)
    D_hidden: tuple[int, ...] = option((256,), "widths of D's hidden layers", ABOVE_0, used_by=PERCEPTRONS)
    G_activation: str = option("relu", "between G's layers; the slope of leaky_relu is 0.2", choices=ACTIVATIONS,
        used_by=PERCEPTRONS)
    D_activation: str = option("relu", "between D's layers", choices=ACTIVATIONS, used_by=PERCEPTRONS)
    init: str = option("torch", "initial weights: the layers' own, or N(0, 2 / fan_in) and zero biases",
        choices=("torch", "xavier_relu"), used_by=("mlp",))
    cond: bool = option(False, "train by the class labels of the data: folders, dataset.json, csv, npz", flag="--cond",
        group=WHAT)
    c_dim: int = option(0, "number of classes; filled in from the data", FROM_0)
    conditioning: str = option("projection",
        "how G and D take the class: concat for dcgan and mlp, classifier for resnet",
        choices=("concat", "projection", "classifier"))
    attention: int = option(0, "resolution with self-attention; 0 = none", FROM_0, used_by=BIGGAN)
    shared_dim: int = option(0,
        "width of the class embedding that conditions every block beside its part of z; 0 = a table a block", FROM_0,
        used_by=BIGGAN)
    w_dim: int = option(512, "width of a style", ABOVE_0, used_by=STYLEGAN2)
    mapping_layers: int = option(8, "layers from z to styles", ABOVE_0, used_by=STYLEGAN2)
    channel_base: int = option(16384, "a layer of R x R pixels has channel_base / R channels", ABOVE_0,
        used_by=STYLEGAN2)
    channel_max: int = option(512, "upper limit of the channels of a layer", ABOVE_0, used_by=STYLEGAN2)
    style_mixing: float = option(0.9, "share of the images whose finer layers take their styles from another z",
        FROM_0_TO_1, used_by=STYLEGAN2)
    mbstd_group: int = option(4, "images that D compares with each other", ABOVE_0, used_by=STYLEGAN2)
    D_skips: bool = option(True, "residual blocks in D", used_by=STYLEGAN2)
    widths: tuple[int, ...] = option((), "channels of the stages, from 4x4 pixels up", ABOVE_0, used_by=R3GAN)
    cardinalities: tuple[int, ...] = option((), "groups of the stages' 3x3 convolutions", ABOVE_0, used_by=R3GAN)
    blocks: tuple[int, ...] = option((), "blocks of the stages", ABOVE_0, used_by=R3GAN)
    width: float = option(1.0, "times the channels of the paper", ABOVE_0, used_by=("lightweight",))


@dataclass(frozen=True)
class LossConfig:
    """Losses of D and G, how often each is minimised, and changes to D's targets and inputs."""

    name: str = option("non_saturating", "adversarial loss; custom: a pair of functions, from Python",
        choices=("non_saturating", "saturating", "wasserstein", "hinge", "least_squares", "relativistic", "custom"))
    fresh_fakes: bool = option(False, "draw a new z for G's update instead of reusing the fakes of D's")
    n_critic: int = option(1, "updates of D per update of G", ABOVE_0)
    n_critic_intro: int = option(0, "the same for the first intro_updates updates of G", FROM_0)
    intro_updates: int = option(0, "updates of G that take n_critic_intro updates of D each", FROM_0)
    hinge_margin: float = option(1.0, "below 1: the margin of every image is drawn from U(hinge_margin, 1)",
        FROM_0_TO_1)
    class_D: float = option(0.0, "weight of the auxiliary classifier's cross-entropy in D's loss (real images)", FROM_0)
    class_G: float = option(0.0, "the same in G's loss (fakes)", FROM_0)
    reconstruction: float = option(0.0, "weight of D's reconstruction of real images, for a D with decoders", FROM_0)
    smooth_real: float = option(0.0, "one-sided label smoothing: the target of real images is 1 - smooth_real",
        FROM_0_TO_1)
    smooth_fake: float = option(0.0, "two-sided label smoothing: the target of fakes is smooth_fake", FROM_0_TO_1)
    flip_labels: float = option(0.0, "probability that D is given the wrong label of an image", FROM_0_TO_1)
    instance_noise: float = option(0.0, "standard deviation of the Gaussian noise on D's inputs", FROM_0)
    instance_noise_kimg: float = option(0.0, "kimg over which the noise falls linearly to 0; 0 = constant", FROM_0)


@dataclass(frozen=True)
class PenaltyConfig:
    """Penalties of D and G, and weight clipping. 0 = not used."""

    gp_weight: float = option(0.0, "weight of (|grad D| - 1)^2 between real and fake images: WGAN-GP's is 10", FROM_0)
    r1_gamma: float = option(0.0, "gamma of gamma / 2 |grad D|^2 at real images", FROM_0)
    r2_gamma: float = option(0.0, "gamma of gamma / 2 |grad D|^2 at fake images", FROM_0)
    gamma_end: float = option(1.0, "final multiplier of r1_gamma and r2_gamma, annealed over optim.decay_kimg", FROM_0)
    D_reg_interval: int = option(1,
        "k > 1: lazy regularisation, D's penalties in an extra update after every k-th update, scaled by k",
        ABOVE_0)
    pl_weight: float = option(0.0, "weight of G's path length: StyleGAN2's is 2", FROM_0)
    pl_decay: float = option(0.01, "weight of the current path lengths in their running mean", ABOVE_0_TO_1)
    pl_batch_fraction: float = option(0.5,
        "share of the batch, or of batch_gpu, used for path lengths", ABOVE_0_TO_1)
    G_reg_interval: int = option(4,
        "k: G's path length penalty in an extra update after every k-th update of G, scaled by k", ABOVE_0)
    clip: float = option(0.0, "clip D's weights to [-clip, clip] before every update: WGAN's is 0.01", FROM_0)
    orthogonal: float = option(0.0, "weight of the off-diagonal products of G's filters: BigGAN's is 1e-4", FROM_0)


@dataclass(frozen=True)
class OptimConfig:
    """The two optimisers, their schedules, and the moving average of G."""

    name: str = option("adam", "optimiser", choices=OPTIMIZERS)
    name_D: str | None = option(None, "optimiser of D; none = name", choices=(None, *OPTIMIZERS))
    lr_G: float = option(2e-4, "learning rate of G", ABOVE_0)
    lr_D: float = option(2e-4, "learning rate of D", ABOVE_0)
    beta1: float = option(0.5, "beta1 of adam, adamw and lion", FROM_0_BELOW_1)
    beta2: float = option(0.999, "beta2 of adam, adamw and lion, or the smoothing constant of rmsprop", FROM_0_BELOW_1)
    eps: float = option(1e-8, "epsilon of adam, adamw and rmsprop", ABOVE_0)
    weight_decay: float | None = option(None,
        "decoupled for adamw and lion, otherwise added to the gradients; none = 0.01 for adamw, 0 for the others",
        FROM_0)
    momentum: float = option(0.0, "momentum of sgd and rmsprop", FROM_0_BELOW_1)
    grad_clip: float = option(0.0,
        "upper limit of the norm of a network's gradients in an update, all together; 0 = none", FROM_0)
    beta2_end: float | None = option(None, "final beta2, reached over decay_kimg; none = constant", FROM_0_BELOW_1)
    decay: str = option("none", "schedule of lr, from lr to lr_end times lr", choices=("none", "linear", "cosine"))
    decay_kimg: float = option(0.0, "kimg of the decay", FROM_0)
    lr_end: float = option(0.0, "final multiplier of lr", FROM_0)
    warmup_kimg: float = option(0.0, "kimg over which lr rises linearly from 0", FROM_0)
    ema_kimg: float | None = option(None,
        "half-life of G's moving average in kimg; none = no average, samples come from G", ABOVE_0)
    ema_start_kimg: float | None = option(None,
        "half-life at the start, annealed to ema_kimg over decay_kimg; none = ema_kimg", FROM_0)
    ema_rampup: float | None = option(None,
        "upper limit of the half-life, as a share of the images shown so far: StyleGAN2-ADA's is 0.05", ABOVE_0)
    ema_buffers: str = option("copy", "what the average does with buffers, such as BatchNorm statistics",
        choices=("copy", "average"))


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of every image that D sees, real and fake."""

    kind: str = option("none", "augment what D sees: DiffAugment, or ADA, which adapts to D",
        choices=("none", "diff", "ada"), flag="--augment", group=WHAT)
    policy: str | None = option(None,
        "comma-separated transforms; diff: colour, translation, cutout; ada: blit, geometry, colour, cutout; "
        "none = all")
    p: float = option(0.0, "ada: initial probability of a transform", FROM_0_TO_1)
    p_end: float | None = option(None, "ada: final probability, annealed over optim.decay_kimg instead of adapting",
        FROM_0_TO_1)
    target: float = option(0.6, "ada: target of the mean sign of D's logits of real images; 0 = p is constant",
        FROM_0_TO_1)
    ada_kimg: float = option(500.0, "ada: kimg over which p changes by at most 1", ABOVE_0)


@dataclass(frozen=True)
class DataConfig:
    """Real images."""

    source: str = option("fashion-mnist-10k",
        "fashion-mnist-10k (embedded), mnist, fashion-mnist, cifar10, stacked-mnist, gaussian, ring8, grid25, or a "
        "folder, zip, tar, csv, parquet, idx, npy, npz or packed file", flag="--data", group=WHAT, metavar="NAME|PATH")
    skip_bad: bool = option(False, "skip files that are not images, and list them", flag="--skip-bad", group=WHAT)
    backend: str = option("auto",
        "where images are kept: on the device, in host memory, or decoded by DALI on demand; auto = by "
        "their size", choices=("auto", "resident", "stream", "dali"), flag="--data-backend", group=SPEED)
    mirror: bool = option(False, "mirror images left to right at random", flag="--mirror", group=WHAT)
    range: tuple[float, float] | None = option(None,
        "LOW,HIGH: the values that become black and white where they are no bytes; none = by the set", FINITE)
    cache: bool = option(False,
        "from Python: read a DataLoader's data set once into memory, instead of iterating the loader")
    random_crop: float = option(1.0,
        "dali: crop a random square, at least this share of the shorter side; 1 = the centre square", ABOVE_0_TO_1)
    mean: float = option(4.0, "mean of the source gaussian", FINITE)
    std: float = option(1.25, "standard deviation of the source gaussian", ABOVE_0)


@dataclass(frozen=True)
class RunConfig:
    """Length, speed and records of a run."""

    batch_size: int = option(64, "images per step", ABOVE_0, flag="--batch-size", group=SPEED, metavar="N")
    batch_gpu: int | None = option(None, "images per pass, for batches that exceed the memory; none = the whole batch",
        ABOVE_0, flag="--batch-gpu", group=SPEED, metavar="N")
    epochs: float | None = option(None, "passes over the data", ABOVE_0, flag="--epochs", group=LENGTH, metavar="N")
    kimg: float | None = option(None, "thousands of real images shown", ABOVE_0, flag="--kimg", group=LENGTH,
        metavar="N")
    steps: int | None = option(None, "updates of D, one batch each", ABOVE_0, flag="--steps", group=LENGTH, metavar="N")
    seed: int = option(0, "seed of initial weights, z and the order of the data", SEED, flag="--seed", group=RUN,
        metavar="N")
    amp: bool = option(True, "compute in bf16 if the chip supports it", flag="--amp", group=SPEED)
    compile: bool = option(True, "compile the whole step into one graph", flag="--compile", group=SPEED)
    accelerate: bool = option(True, "run fused operators in the layers of own networks, with the same parameters")
    autotune: bool = option(False, "CUDA: let the compiler time its kernels, once, for minutes; for long runs",
        flag="--autotune", group=SPEED)
    combo_kernels: bool = option(False, "CUDA: let the compiler put small kernels into one launch")
    cuda_graph: str = option("auto", "CUDA: launch the whole step as one CUDA graph; on = or fail with the reason",
        choices=("auto", "on", "off"), flag="--cuda-graph", group=SPEED)
    graph_steps: int | None = option(None, "CUDA: steps in one launch of the CUDA graph; none = measured", ABOVE_0,
        flag="--graph-steps", group=SPEED, metavar="K")
    deterministic: bool = option(False,
        "the same bits in every run on the same kind of device: no algorithm is chosen by speed",
        flag="--deterministic", group=RUN)
    device: str | None = option(None, "cpu, cuda, cuda:1; none = cuda if available", flag="--device", group=SPEED,
        metavar="NAME")
    tick_kimg: float | None = option(None, "kimg between two lines of statistics; none = 1/100 of the run",
        ABOVE_0, flag="--tick", group=RUN, metavar="KIMG")
    image_ticks: int = option(5, "ticks between two grids of samples", ABOVE_0)
    snapshot_ticks: int = option(25, "ticks between two snapshots of the weights and the resumable state", ABOVE_0)
    grid: int = option(64, "samples in a grid", ABOVE_0)
    metrics: str = option("",
        "comma-separated metrics, measured during training, as fastgan eval takes them, such as fid5k,pr5k; the best "
        "snapshot is kept", flag="--metrics", group=RUN, metavar="LIST")
    features: str = option("inception",
        "feature network of the metrics: inception, efficientnet_lite0, classifier, or NAME=PATH of its weights",
        flag="--features", group=RUN, metavar="NAME[=PATH]")
    metric_ticks: int = option(25, "ticks between two measurements of the metrics; another one is taken at the end",
        ABOVE_0)
    tensorboard: bool = option(False, "also write TensorBoard event files", flag="--tensorboard", group=RUN)


@dataclass(frozen=True)
class OpsConfig:
    """Implementation of each fused operator.

    auto = the fastest one measured here; reference; or another name of `fastgan info --ops`.
    """

    deconv: str = option("auto", "layers that double or halve an image")
    leaky_relu_bce: str = option("auto", "the end of D with its cross-entropy")
    adam_ema: str = option("auto", "Adam with the moving average")
    batch_norm: str = option("auto", "sums of BatchNorm")
    deconv_stats: str = option("auto", "deconv with the statistics of the BatchNorm behind it")
    conv: str = option("auto", "convolutions that a penalty differentiates twice")
    channel_sums: str = option("auto", "bias gradients")


# fmt: on
@dataclass(frozen=True)
class Config:
    """A whole run; `fastgan train --dry-run` prints it and the run folder keeps it."""

    preset: str = "dcgan"
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)
    ops: OpsConfig = field(default_factory=OpsConfig)


SECTIONS = {section.name: section.default_factory for section in dataclasses.fields(Config) if section.name != "preset"}
OPTIONS: dict[str, Option] = {
    f"{section}.{option_field.name}": option_field.metadata["option"]
    for section, kind in SECTIONS.items()
    for option_field in dataclasses.fields(kind)
}
LENGTHS = ("run.epochs", "run.kimg", "run.steps")


def is_used(key: str, architecture: str) -> bool:
    """Return whether networks of this architecture read the option `section.name`."""
    return not OPTIONS[key].used_by or architecture in OPTIONS[key].used_by
