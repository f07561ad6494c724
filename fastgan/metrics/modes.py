"""Measures of mode collapse, and class accuracy.

They are the number of modes of a known distribution that samples reach, the evenness of the samples
over the modes, and the share of samples of the class that was asked for.
"""
from collections.abc import Callable

import torch

NUM_STACKED = 1000  # modes of stacked digits: one digit each in red, green and blue


def mixture_coverage(
    samples: torch.Tensor, centres: torch.Tensor, std: float, min_samples: int = 1
) -> dict[str, float]:
    """Measure the coverage of a mixture of equally likely Gaussians by samples [n, d].

    The Gaussians lie around `centres` [m, d], each of standard deviation `std` in every direction.
    The rule of the literature on rings and grids (Srivastava et al. 2017, Lin et al. 2018): a
    sample is of high quality within 3 std of the nearest centre, and a mode counts as covered when
    there is at least one such sample, or `min_samples` of them. Of true samples in the plane 98.9 %
    are of high quality. Returns modes (0 to m), high_quality (0 to 1) and kl, KL(samples ||
    uniform) in nats, 0 to log m, for which every sample counts to its nearest mode. Samples that
    are not finite are not of high quality and count to no mode; kl of none is infinite.
    """
    finite = samples[samples.isfinite().all(1)]
    distances, nearest = torch.cdist(finite.double(), centres.double()).min(1)
    counts = torch.bincount(nearest, minlength=len(centres))
    good = torch.bincount(nearest[distances <= 3 * std], minlength=len(centres))
    uniform = torch.full((len(centres),), 1 / len(centres), dtype=torch.float64)
    return {
        "modes": float((good >= min_samples).sum()),
        "high_quality": good.sum().item() / len(samples),
        "kl": kl_divergence(counts, uniform.to(counts.device)),
    }


def stacked_digits(images: torch.Tensor, classify: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the modes int64 [N], 100 red + 10 green + blue, of digits uint8 [N, 3, H, W].

    classify: of [N, 1, H, W], digits int64 [N].
    """
    red, green, blue = (classify(images[:, channel:channel + 1]) for channel in range(3))
    return 100 * red + 10 * green + blue


def mode_coverage(modes: torch.Tensor, real_share: torch.Tensor) -> dict[str, float]:
    """Measure the coverage of the real distribution's modes (Metz et al. 2016).

    The samples lie in `modes` int64 [N]; the real distribution has the shares real_share [m].
    Returns modes, the number of those in which there is a sample, and kl, KL(samples || real) in
    nats: infinite where a sample lies in a mode that the real set has not.
    """
    counts = torch.bincount(modes, minlength=len(real_share))
    return {"modes": float((counts > 0).sum()), "kl": kl_divergence(counts, real_share)}


def class_accuracy(asked: torch.Tensor, found: torch.Tensor, num_classes: int) -> tuple[float, torch.Tensor]:
    """Return (share of the samples whose class is the one asked for, that of each class).

    The second is float64 [num_classes], NaN for a class that was not asked for. asked, found: class
    numbers int64 [N], below num_classes.
    """
    right = asked == found
    # A bincount with weights would not be deterministic on CUDA
    num_right = torch.bincount(asked[right], minlength=num_classes)
    return right.double().mean().item(), num_right.double() / torch.bincount(asked, minlength=num_classes)


def kl_divergence(counts: torch.Tensor, share: torch.Tensor) -> float:
    """Return KL(counts / their sum || share) in nats.

    It is infinite without any count, and where there are counts without a share.
    """
    if counts.sum() == 0:
        return float("inf")
    seen = counts > 0  # the others add 0 log 0 = 0
    observed = counts[seen].double() / counts.sum()
    return (observed * (observed / share[seen].double()).log()).sum().item()
