"""The Frechet distance between two sets of features, each taken for a Gaussian (Heusel et al. 2017)."""
from dataclasses import dataclass

import torch


class RunningMoments:
    """Mean and covariance of features that come in batches, in float64: nothing of the batches is kept.

    A batch costs one product in float64, 2 * num_features**2 FLOP an image: for Inception's 2048 features a thousandth of the network's own.
    """

    def __init__(self, num_features: int, device: torch.device):
        self.num = 0
        self._sum = torch.zeros(num_features, dtype=torch.float64, device=device)
        self._products = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)

    def add(self, features: torch.Tensor) -> None:
        """features: float [N, num_features]."""
        features = features.double()
        self._sum += features.sum(0)
        self._products.addmm_(features.T, features)
        self.num += len(features)

    def mean(self) -> torch.Tensor:
        """float64 [num_features]."""
        return self._sum / self.num

    def covariance(self) -> torch.Tensor:
        """float64 [num_features, num_features], of a sample (num - 1); num must be at least 2."""
        mean = self.mean()
        return (self._products - self.num * torch.outer(mean, mean)) / (self.num - 1)


@dataclass(frozen=True)
class Target:
    """The Gaussian that others are measured by. mean: float64 [d]. root: float64 [d, d], the symmetric root of its covariance."""

    mean: torch.Tensor
    root: torch.Tensor


def target(moments: RunningMoments) -> Target:
    """The eigenvalues that rounding has made negative count as 0. One eigendecomposition, 3 s for 2048 features on two cores."""
    values, vectors = torch.linalg.eigh(moments.covariance())
    return Target(moments.mean(), (vectors * values.clamp(min=0).sqrt()) @ vectors.T)


def frechet_distance(real: Target, fake: RunningMoments) -> float:
    """|mean_r - mean_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2)).

    C_r C_f has the eigenvalues of the symmetric C_r^(1/2) C_f C_r^(1/2), all of them real and not negative, so that no root of a matrix that is not
    symmetric is needed: singular covariances are nothing special.
    """
    covariance = fake.covariance()
    product = real.root @ covariance @ real.root
    roots = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt()
    between = (real.mean - fake.mean()).square().sum()
    return (between + real.root.square().sum() + covariance.trace() - 2 * roots.sum()).item()
