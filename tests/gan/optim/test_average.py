"""The moving average against its formula."""
import torch
from torch import nn

from fastgan.gan.optim import Average, beta_for, make_average


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


def test_what_was_handed_over_is_left_to_its_new_owner():
    """The averages of the weights go to the optimiser, in its order; the bias and the buffers stay."""
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    G_ema = make_average(G)
    average = Average(G, G_ema, beta=0.75)
    handed_over = average.hand_over([G[2].weight, G[0].weight])
    assert handed_over[0] is G_ema[2].weight
    assert handed_over[1] is G_ema[0].weight
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.add_(1)
    G(torch.randn(8, 3))
    before = {name: parameter.clone() for name, parameter in G_ema.named_parameters()}
    average.step()
    moved = {name for name, parameter in G_ema.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"0.bias", "1.weight", "1.bias"}
    assert torch.equal(G_ema[1].running_mean, G[1].running_mean)


def test_all_may_be_handed_over():
    G = nn.Linear(3, 4)
    average = Average(G, make_average(G), beta=0.75)
    average.hand_over(list(G.parameters()))
    average.step()


def test_buffers_may_be_averaged_too():
    """Those of whole numbers are copied all the same."""
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    G_ema = make_average(G)
    average = Average(G, G_ema, beta=0.75, averages_buffers=True)
    for _ in range(2):
        before = G_ema[1].running_mean.clone()
        G(torch.randn(8, 3) + 1)
        average.step()
        torch.testing.assert_close(G_ema[1].running_mean, 0.75 * before + 0.25 * G[1].running_mean)
    assert G_ema[1].num_batches_tracked == G[1].num_batches_tracked == 2
