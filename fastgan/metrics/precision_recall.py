"""The mutual coverage of two sets of features.

Each set is represented by balls around its points that reach to the k-th nearest neighbour.

Precision and recall: Kynkaanniemi et al. 2019, k = 3. Density and coverage: Naeem et al. 2020, k =
5.
"""
import torch

PR_NEIGHBOURS, DC_NEIGHBOURS = 3, 5
_ROWS = 1024  # rows whose distances are computed at once: 20 MB beside 5000 features


def squared_radii(features: torch.Tensor, k: int) -> torch.Tensor:
    """Return the squared distance of each feature of [N, d] to its k-th nearest other one.

    The result is float32 [N]; where there are fewer others it is the distance to the furthest.
    """
    k, radii = min(k, len(features) - 1), []
    for start in range(0, len(features), _ROWS):
        distances = squared_distances(features[start:start + _ROWS], features)
        distances.diagonal(start).fill_(torch.inf)
        radii.append(distances.topk(k, largest=False).values[:, -1])
    return torch.cat(radii)


def precision(real: torch.Tensor, radii: torch.Tensor, fake: torch.Tensor) -> float:
    """Return the share of the fake features that lie in a ball around a real one.

    With the roles exchanged: recall.
    """
    inside = [(squared_distances(rows, real) <= radii).any(1) for rows in fake.split(_ROWS)]
    return torch.cat(inside).double().mean().item()


def density_and_coverage(real: torch.Tensor, radii: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float]:
    """Return (density, coverage).

    Density is the number of balls around real features in which a fake one lies, divided by k.
    Coverage is the share of these balls in which there is a fake one.
    """
    num_inside, is_covered = 0, torch.zeros_like(radii, dtype=torch.bool)
    for rows in fake.split(_ROWS):
        inside = squared_distances(rows, real) <= radii
        num_inside += inside.sum().item()
        is_covered |= inside.any(0)
    return num_inside / (k * len(fake)), is_covered.double().mean().item()


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the squared distances float32 [N, M] of the rows of [N, d] and [M, d].

    They come from one product, with both sets moved by the mean of y, since far from 0 the
    product's rounding would show.
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    return torch.addmm(y.square().sum(1), x, y.T, alpha=-2).add_(x.square().sum(1, keepdim=True)).clamp_(min=0)
