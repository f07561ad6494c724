"""The light-weight GAN for few images (Liu et al., 2021, arXiv 2101.04775).

Its authors call it FastGAN, which this project is not. For images of 16 to 1024 pixels: smaller
ones than the paper's 256 leave out the levels that they do not reach. Every convolution is divided
by its spectral norm, none has a bias.

Differences from the paper: G gives one image, where the paper's gives a second one of 128 pixels to
the second discriminator, which here runs on a smaller copy of the image itself; reconstructions are
compared by L1 at the decoders' resolution, not by LPIPS, whose trained VGG does not come with this
package; each image draws its own quadrant to reconstruct; tanh ends G at every size.
"""

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.errors import UserError
from fastgan.nn.layers import SLOPES, BatchNorm2d, Projection, dcgan_init
from fastgan.nn.norms import normalise_weights

SIZES = (16, 32, 64, 128, 256, 512, 1024)
# Channels after the level of each size
G_CHANNELS = {4: 1024, 8: 512, 16: 256, 32: 128, 64: 128, 128: 64, 256: 32, 512: 16, 1024: 8}
NOISY_SIZES = (8, 32, 128, 512)  # levels of G with two convolutions and noise; the others have one and none
G_GATES = {64: 4, 128: 8, 256: 16, 512: 32}  # channels of the level of this size are weighed by the one of that size
D_CHANNELS = {512: 8, 256: 16, 128: 32, 64: 64, 32: 128, 16: 256, 8: 512}
D_GATES = {32: 256, 16: 128, 8: 64}
SMALL_CHANNELS = {64: 32, 32: 64, 16: 128, 8: 256, 4: 512}  # of the second discriminator
DECODER_CHANNELS = {8: 256, 16: 128, 32: 64, 64: 64, 128: 32}
LOGIT_CHANNELS = 1024
LARGEST_SMALL = 128  # pixels of the copy that the second discriminator runs on
LARGEST_MAP = 256  # D's first features, whatever the size of the image


class Generator(nn.Module):
    """z [N, z_dim] -> images [N, img_channels, R, R] in [-1, 1].

    Levels double the image by nearest neighbours; gates weigh the channels of the fine levels by
    the features of a level 16 times smaller (skip-layer excitation), which images below 64 pixels
    do not have. Noise is added while training only, so that a z has one image.
    """

    def __init__(self, img_resolution: int, img_channels: int, z_dim: int = 256, width: float = 1.0):
        """Build the layers. width: multiplies the numbers of channels.

        Raises UserError for a resolution that is not in SIZES.
        """
        super().__init__()
        _check_resolution(img_resolution)
        channels = {size: _scaled(number, width) for size, number in G_CHANNELS.items() if size <= img_resolution}
        self.first = nn.Sequential(Projection(z_dim, 2 * channels[4]), BatchNorm2d(2 * channels[4]), nn.GLU(dim=1))
        self.levels = nn.ModuleDict(
            {str(size): _up(channels[size // 2], channels[size], size in NOISY_SIZES) for size in channels if size > 4}
        )
        self.gates = nn.ModuleDict(
            {str(to): Gate(channels[size], channels[to], size) for to, size in G_GATES.items() if to in channels}
        )
        self.to_image = nn.Sequential(_conv(channels[img_resolution], img_channels, 3), nn.Tanh())
        dcgan_init(self)
        normalise_weights(self, "spectral")

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.first(z[:, :, None, None])
        maps = {4: x}
        for size, level in self.levels.items():
            x = maps[int(size)] = _gated(self.gates, int(size), level(x), maps, G_GATES)
        return self.to_image(x)


class Discriminator(nn.Module):
    """Images [N, img_channels, R, R] -> logits [N, L].

    A map of 5x5 for the image, and one more for its copy of `small` pixels (1x1 at R = 16). small:
    min(128, R / 2), the resolution of the copy and of all reconstructions.
    """

    def __init__(self, img_resolution: int, img_channels: int, width: float = 1.0):
        """Build the layers. width: multiplies the numbers of channels.

        Raises UserError for a resolution that is not in SIZES.
        """
        super().__init__()
        _check_resolution(img_resolution)
        self.small = min(LARGEST_SMALL, img_resolution // 2)
        first = min(LARGEST_MAP, img_resolution)
        channels = {size: _scaled(number, width) for size, number in D_CHANNELS.items()}
        self.stem = _stem(img_resolution, img_channels, channels)
        self.levels = nn.ModuleDict(
            {str(size): Down(channels[2 * size], channels[size]) for size in channels if size < first}
        )
        self.gates = nn.ModuleDict(
            {str(to): Gate(channels[size], channels[to], size) for to, size in D_GATES.items() if size <= first}
        )
        logit_channels = _scaled(LOGIT_CHANNELS, width)
        self.judge = nn.Sequential(
            *_normalised(_conv(channels[8], logit_channels, 1)), nn.Conv2d(logit_channels, 1, 4, bias=False)
        )

        small_end = min(8, self.small // 2)  # size of the second discriminator's last features
        small_channels = [
            _scaled(number, width) for size, number in SMALL_CHANNELS.items() if small_end <= size < self.small
        ]
        self.small_stem = _small_stem(img_channels, small_channels)
        self.judge_small = nn.Conv2d(small_channels[-1], 1, 4, bias=False)

        self.decode_whole = _decoder(channels[8], 8, self.small, img_channels, width)
        self.decode_small = _decoder(small_channels[-1], small_end, self.small, img_channels, width)
        self.decode_part = _decoder(channels[16], 8, self.small, img_channels, width)
        dcgan_init(self)
        normalise_weights(self, "spectral")

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return self._logits(self._maps(img)[8], self.small_stem(self._smaller(img)))

    def forward_and_reconstruct(self, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (logits [N, L] as D(img), reconstruction loss [N]) for real images.

        The loss has the dtype of the images and is to be added to D's loss. It is the sum of three
        mean absolute differences, each at most 2: the image from D's 8x8 features, its small copy
        from those of the second discriminator, and a quadrant, at random for each image, from a
        quarter of the 16x16 features. Draws from torch's default generator.
        """
        maps, small_img = self._maps(img), self._smaller(img)
        small_map = self.small_stem(small_img)
        is_top, is_left = torch.rand(2, len(img), 1, 1, 1, device=img.device) < 0.5
        part_img, part_map = (_quadrant(x, is_top, is_left) for x in (img, maps[16]))
        loss = _mean_difference(self.decode_whole(maps[8]), small_img) + _mean_difference(
            self.decode_small(small_map), small_img
        )
        loss = loss + _mean_difference(self.decode_part(part_map), self._smaller(part_img))
        return self._logits(maps[8], small_map), loss

    def _maps(self, img: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return D's features by size, from the stem's down to 8: [N, channels, size, size]."""
        x = self.stem(img)
        maps = {x.shape[-1]: x}
        for size, level in self.levels.items():
            x = maps[int(size)] = _gated(self.gates, int(size), level(x), maps, D_GATES)
        return maps

    def _smaller(self, img: torch.Tensor) -> torch.Tensor:
        """Shrink images of at least `small` pixels to [N, img_channels, small, small].

        Each pixel is the mean of its area.
        """
        return _shrunk(img, img.shape[-1] // self.small)

    def _logits(self, big_map: torch.Tensor, small_map: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.judge(big_map).flatten(1), self.judge_small(small_map).flatten(1)], 1)


class Gate(nn.Module):
    """Weights in (0, 1), [N, K, 1, 1], for the channels of a level, from another level's features.

    The features are [N, C, size, size].
    """

    def __init__(self, fan_in: int, fan_out: int, size: int):
        super().__init__()
        self.factor = size // 4
        self.layers = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 4, bias=False), nn.SiLU(), _conv(fan_out, fan_out, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(_shrunk(x, self.factor))


class Noise(nn.Module):
    """The addition of noise N(0, 1) [N, 1, H, W] times a learned number, which starts at 0.

    Nothing is added in evaluation.
    """

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return x + self.weight.to(x.dtype) * noise


class Down(nn.Module):
    """[N, C, H, W] -> [N, K, H/2, W/2]: the mean of two paths.

    One path has two convolutions, the other a mean over 2x2 and a 1x1 convolution.
    """

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.main = nn.Sequential(*_normalised(_halving(fan_in, fan_out)), *_normalised(_conv(fan_out, fan_out, 3)))
        self.direct = nn.Sequential(*_normalised(_conv(fan_in, fan_out, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.main(x) + self.direct(_shrunk(x, 2))) / 2


def _up(fan_in: int, fan_out: int, is_noisy: bool) -> nn.Sequential:
    """Make a level of G, [N, C, H, W] -> [N, K, 2H, 2W].

    Every convolution gives 2K channels, which the GLU reduces to K.
    """
    layers = [nn.Upsample(scale_factor=2)]
    for channels in (fan_in, fan_out) if is_noisy else (fan_in,):
        noises = [Noise()] if is_noisy else []
        layers += [_conv(channels, 2 * fan_out, 3), *noises, BatchNorm2d(2 * fan_out), nn.GLU(dim=1)]
    return nn.Sequential(*layers)


def _decoder(fan_in: int, size: int, img_resolution: int, img_channels: int, width: float) -> nn.Sequential:
    """Make a decoder: features [N, C, size, size] -> images of img_resolution in [-1, 1]."""
    channels = [_scaled(number, width) for to, number in DECODER_CHANNELS.items() if size < to <= img_resolution]
    fan_ins = [fan_in, *channels]
    ups = [_up(*pair, is_noisy=False) for pair in zip(fan_ins[:-1], channels, strict=True)]
    return nn.Sequential(*ups, _conv(fan_ins[-1], img_channels, 3), nn.Tanh())


def _stem(img_resolution: int, img_channels: int, channels: dict[int, int]) -> nn.Sequential:
    """Make D's first layers, to features of 256 pixels, or of the image's where it has fewer."""
    if img_resolution <= LARGEST_MAP:
        return nn.Sequential(_conv(img_channels, channels[img_resolution], 3), _leaky_relu())
    first = [_halving(img_channels, channels[img_resolution // 2]), _leaky_relu()]
    return nn.Sequential(
        *first, *(_normalised(_halving(channels[512], channels[256])) if img_resolution == 1024 else [])
    )


def _small_stem(img_channels: int, channels: list[int]) -> nn.Sequential:
    """Make all of the second discriminator but its logits.

    Each layer halves the image; BatchNorm from the second layer on.
    """
    layers = [_halving(img_channels, channels[0]), _leaky_relu()]
    for fan_in, fan_out in zip(channels[:-1], channels[1:], strict=True):
        layers += _normalised(_halving(fan_in, fan_out))
    return nn.Sequential(*layers)


def _gated(
    gates: nn.ModuleDict, size: int, x: torch.Tensor, maps: dict[int, torch.Tensor], sources: dict[int, int]
) -> torch.Tensor:
    """Return x of this size, weighed by its gate where there is one."""
    return gates[str(size)](maps[sources[size]]) * x if str(size) in gates else x


def _quadrant(x: torch.Tensor, is_top: torch.Tensor, is_left: torch.Tensor) -> torch.Tensor:
    """Return one quarter of each image by the conditions [N, 1, 1, 1].

    [N, C, 2H, 2W] -> [N, C, H, W].
    """
    half = x.shape[2] // 2
    rows = torch.where(is_top, x[:, :, :half], x[:, :, half:])
    return torch.where(is_left, rows[..., :half], rows[..., half:])


def _mean_difference(ours: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of each image, [N]."""
    return (ours.to(target.dtype) - target).abs().mean((1, 2, 3))


def _shrunk(x: torch.Tensor, factor: int) -> torch.Tensor:
    return x if factor == 1 else F.avg_pool2d(x, factor)


def _normalised(layer: nn.Conv2d) -> list[nn.Module]:
    return [layer, BatchNorm2d(layer.out_channels, "leaky_relu"), nn.Identity()]


def _conv(fan_in: int, fan_out: int, kernel: int) -> nn.Conv2d:
    """Make a convolution that keeps the image's size."""
    return nn.Conv2d(fan_in, fan_out, kernel, padding=kernel // 2, bias=False)


def _halving(fan_in: int, fan_out: int) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, 4, 2, 1, bias=False)


def _leaky_relu() -> nn.LeakyReLU:
    return nn.LeakyReLU(SLOPES["leaky_relu"])


def _scaled(channels: int, width: float) -> int:
    return max(1, round(width * channels))


def _check_resolution(img_resolution: int) -> None:
    if img_resolution not in SIZES:
        raise UserError(f"lightweight: img_resolution {img_resolution} is not one of {', '.join(map(str, SIZES))}.")
