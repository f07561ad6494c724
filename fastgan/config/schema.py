"""Every option of a run, as frozen dataclasses; validation.py says which values are allowed, overrides.py sets them.

Every section is flat, so that `--set SECTION.KEY=VALUE` reaches everything and `training_options.json` reads like the command line.
"""
import dataclasses
from dataclasses import dataclass, field

DCGAN_RESOLUTIONS = (16, 32, 64, 128)
SET_SIZE = 100  # samples that D of the 1-D GAN judges together
DENSITIES = ("gaussian", "ring8", "grid25")  # sources whose samples are numbers, drawn as they are needed


@dataclass(frozen=True)
class ModelConfig:
    """The two networks. Sizes that a preset does not fix come from the data (None)."""

    architecture: str = "dcgan"  # a name of fastgan/models; samples: a 1-D density | points: a 2-D one | custom: a user's own networks, from Python
    z_dim: int = 100
    z_distribution: str = "normal"  # normal: N(0,1) | uniform: U(-1,1) | unit_uniform: U(0,1)
    img_resolution: int | None = None  # pixels a side; None = the data's, at most the preset's own
    img_channels: int | None = None  # 1 or 3; None = the data's
    img_low: float = -1.0  # the value of a black pixel inside the networks, -1 or (mlp without classes, custom) 0; white is 1
    ngf: int = 64  # dcgan, conv: channels of G's last hidden layer, doubled at every halving; resnet, biggan: of its blocks, see taper
    ndf: int = 64  # the same of D
    taper: bool = False  # resnet, biggan: channels are doubled at every halving, up to 16 times; otherwise all blocks have as many
    G_norm: str = "batch"  # dcgan: batch | instance | layer | none | spectral | weight
    D_norm: str = "batch"  # dcgan: the same; resnet: all but weight; resnet-stem: all but weight and spectral
    G_hidden: tuple[int, ...] = (256,)  # mlp, samples, points: hidden widths
    D_hidden: tuple[int, ...] = (256,)
    G_activation: str = "relu"  # relu | leaky_relu (slope 0.2) | elu
    D_activation: str = "relu"
    init: str = "torch"  # torch: the layers' own | xavier_relu: N(0, 2/fan_in), zero biases
    cond: bool = False  # train by class labels, which the data must have
    c_dim: int = 0  # classes; filled in from the data
    conditioning: str = "projection"  # how D and G are told the class: concat (dcgan, mlp) | projection | classifier (resnet)
    attention: int = 0  # biggan: the resolution that has self-attention; 0 = none
    shared_dim: int = 0  # biggan: width of the one class embedding that conditions every block, beside its own part of z; 0 = a table a block
    w_dim: int = 512  # stylegan2: width of a style
    mapping_layers: int = 8  # stylegan2: from z to styles
    channel_base: int = 16384  # stylegan2: a layer of R x R pixels has channel_base / R channels
    channel_max: int = 512  # stylegan2: at most
    style_mixing: float = 0.9  # stylegan2: share of the images whose finer layers take their styles from another z
    mbstd_group: int = 4  # stylegan2: images that D compares with each other
    D_skips: bool = True  # stylegan2: D's blocks are residual
    widths: tuple[int, ...] = ()  # r3gan: channels of the stages, from 4x4 pixels up
    cardinalities: tuple[int, ...] = ()  # r3gan: groups of their 3x3 convolutions
    blocks: tuple[int, ...] = ()  # r3gan: blocks of each stage
    width: float = 1.0  # lightweight: times the channels of the paper


@dataclass(frozen=True)
class LossConfig:
    """What D and G minimise, how often, and the tricks on D's targets and inputs."""

    name: str = "non_saturating"  # non_saturating | saturating | wasserstein | hinge | least_squares | relativistic
    fresh_fakes: bool = False  # draw a new z for the G step instead of reusing the D step's fakes
    n_critic: int = 1  # updates of D for one of G
    n_critic_intro: int = 0  # the same at the very beginning, for so many updates of G; see intro_updates
    intro_updates: int = 0  # updates of G that are preceded by n_critic_intro updates of D each
    hinge_margin: float = 1.0  # below 1: the margin of every image is drawn from U(hinge_margin, 1)
    class_D: float = 0.0  # weight of the auxiliary classifier's cross-entropy in D's loss (real images), and below in G's
    class_G: float = 0.0
    reconstruction: float = 0.0  # weight of D's reconstruction of real images, for a D that has decoders
    smooth_real: float = 0.0  # one-sided label smoothing: the target of real images is 1 - smooth_real
    smooth_fake: float = 0.0  # with it, two-sided: the target of fake images is smooth_fake
    flip_labels: float = 0.0  # probability that D is told the wrong label of an image
    instance_noise: float = 0.0  # standard deviation of the Gaussian noise on D's inputs
    instance_noise_kimg: float = 0.0  # the noise falls linearly to 0 over so many kimg; 0 = it stays


@dataclass(frozen=True)
class PenaltyConfig:
    """What keeps the slopes of D and G in bounds. 0 = not used."""

    gp_weight: float = 0.0  # (|grad D| - 1)^2 between real and fake images: WGAN-GP's is 10
    r1_gamma: float = 0.0  # gamma / 2 |grad D|^2 at real images
    r2_gamma: float = 0.0  # gamma / 2 |grad D|^2 at fake images
    gamma_end: float = 1.0  # both gammas go to so many times themselves while optim.decay_kimg are shown
    D_every: int = 1  # 1 = in every update of D; k = in an update of its own after every k-th one, k times as strong
    pl_weight: float = 0.0  # path length of G, for a G with `mapping` and `synthesis`: StyleGAN2's is 2
    pl_decay: float = 0.01  # share of the present path lengths in their running mean
    pl_batch: float = 0.5  # share of the batch, or of batch_gpu, that path lengths are taken of
    G_every: int = 4  # as D_every, for the path length
    clip: float = 0.0  # D's weights are clipped to [-clip, clip] before every update: WGAN's is 0.01
    orthogonal: float = 0.0  # off-diagonal products of the filters of G: BigGAN's is 1e-4


@dataclass(frozen=True)
class OptimConfig:
    """The two optimisers, their schedules, and the moving average of G."""

    name: str = "adam"  # adam | rmsprop
    lr_G: float = 2e-4
    lr_D: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999  # rmsprop: its smoothing constant
    eps: float = 1e-8
    beta2_end: float | None = None  # adam: beta2 goes there while decay_kimg are shown
    decay: str = "none"  # how lr goes to lr_end times itself: none | linear | cosine
    decay_kimg: float = 0.0  # while so many thousand images are shown
    lr_end: float = 0.0
    warmup_kimg: float = 0.0  # lr rises linearly from 0
    ema_kimg: float | None = None  # half-life of the moving average of G; None = no average, samples come from G itself
    ema_start_kimg: float | None = None  # the half-life goes from here to ema_kimg while decay_kimg are shown
    ema_share: float | None = None  # the half-life is at most this share of what was shown so far: StyleGAN2-ADA's is 0.05


@dataclass(frozen=True)
class AugmentConfig:
    """What is done at random to every image that D sees, real and fake, so that few images last longer."""

    kind: str = "none"  # none | diff: DiffAugment, always | ada: with probability p, which adapts itself
    policy: str | None = None  # diff: of colour, translation, cutout; ada: of blit, geometry, colour, cutout; None = all of them
    p: float = 0.0  # ada: the probability to begin with
    p_end: float | None = None  # ada: p goes there while optim.decay_kimg are shown, instead of adapting itself
    target: float = 0.6  # ada: mean sign of D's logits of real images, which p is moved to keep; 0 = p stays as it is
    ada_kimg: float = 500.0  # ada: thousands of images in which p moves by at most 1


@dataclass(frozen=True)
class DataConfig:
    """Where real images come from."""

    source: str = "fashion-mnist-10k"  # a name, or the path of a folder, zip, idx, npy or npz; "gaussian": samples of a 1-D density
    skip_bad: bool = False  # leave out files that are no images, and list them
    backend: str = "auto"  # resident: the set on the device | stream: from host memory | dali: decoded as they are needed | auto: by size
    mirror: bool = False  # show every image as it is or left to right reversed, at random
    random_crop: float = 1.0  # dali: cut a square out of the whole image, at least so large a part of its shorter side; 1 = the centre square
    mean: float = 4.0  # source "gaussian": the density to learn
    std: float = 1.25


@dataclass(frozen=True)
class RunConfig:
    """How long, how fast, and what is written down on the way."""

    batch_size: int = 64
    batch_gpu: int | None = None  # images at a time: gradients are added up over a batch; None = all at once
    epochs: float | None = None  # exactly one of epochs, kimg and steps is given
    kimg: float | None = None  # thousands of real images shown
    steps: int | None = None  # updates of D, a batch each
    seed: int = 0
    amp: bool = True
    compile: bool = True
    autotune: bool = False  # CUDA: let the compiler time its kernels, which takes minutes, once
    combo_kernels: bool = False  # CUDA: the compiler puts small kernels into one launch
    cuda_graph: str = "auto"  # the step as a CUDA graph: auto = where it agrees with eager | on: or end with the reason | off
    graph_steps: int | None = None  # steps in one launch of a CUDA graph; None = measured
    deterministic: bool = False  # the same bits in every run on the same chip and versions: nothing is chosen by its speed (determinism.py)
    device: str | None = None  # cpu | cuda | cuda:1 ...; None = cuda where there is one
    tick_kimg: float | None = None  # interval of the statistics; None = a hundredth of the run
    image_ticks: int = 5  # a grid of samples every so many ticks
    snapshot_ticks: int = 25  # weights and resumable state every so many ticks
    grid: int = 64  # samples in a grid
    metrics: str = ""  # measured while training, as fastgan eval takes them: fid5k,pr5k; empty = none
    features: str = "inception"  # the network that metrics look through: inception | efficientnet_lite0 | classifier, or NAME=PATH of its weights
    metric_ticks: int = 25  # they are measured every so many ticks, and at the end
    tensorboard: bool = False


@dataclass(frozen=True)
class OpsConfig:
    """Which implementation of each fused operator runs: auto = the fastest one measured here; reference, or a name of `fastgan info --ops`."""

    deconv: str = "auto"
    leaky_relu_bce: str = "auto"
    adam_ema: str = "auto"
    batch_norm: str = "auto"
    deconv_stats: str = "auto"


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
