"""The moving average of G."""
import torch
from torch import nn

from fastgan.ema import Average, beta_for, make_average


def test_half_life():
    """After ema_kimg thousand images half of the starting weight is left."""
    steps = round(10_000 / 64)
    assert abs(beta_for(64, 10.0) ** steps - 0.5) < 1e-2


def test_parameters_are_averaged_and_buffers_copied():
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    G_ema = make_average(G)
    average = Average(G, G_ema, beta=0.75)
    before = [parameter.clone() for parameter in G_ema.parameters()]
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.add_(torch.randn_like(parameter))
    G(torch.randn(8, 3))
    average.step()
    for old, new, source in zip(before, G_ema.parameters(), G.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * source)
    assert torch.equal(G_ema[1].running_mean, G[1].running_mean)
    assert G_ema[1].running_mean.abs().sum() > 0


def test_the_average_is_a_separate_network_in_evaluation_mode():
    G = nn.Sequential(nn.Linear(3, 4), nn.Dropout())
    G_ema = make_average(G)
    assert not G_ema.training
    assert G.training
    assert G_ema[0].weight.data_ptr() != G[0].weight.data_ptr()
