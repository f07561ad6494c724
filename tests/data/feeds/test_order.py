import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data.feeds.order import EndlessOrder, epoch_order


def test_orders_of_neighbouring_seeds_and_epochs_differ():
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_positions_are_uniform_over_seeds():
    first = torch.stack([epoch_order(4, seed, 1) for seed in range(2000)])[:, 0].bincount(minlength=4)
    assert ((first - 500).abs() < 100).all()  # 5 standard deviations


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(0, 100), st.integers(1, 50))
def test_rows_are_those_of_the_epochs_behind_each_other(num_images, nimg, num):
    expected = torch.cat([epoch_order(num_images, 3, epoch) for epoch in range((nimg + num) // num_images + 1)])[
        nimg : nimg + num
    ]
    assert torch.equal(EndlessOrder(num_images, seed=3).rows(nimg, num), expected)


def test_only_two_epochs_are_kept():
    endless = EndlessOrder(5, seed=0)
    for epoch in (0, 1, 2, 7, 8, 3):
        assert torch.equal(endless.epoch(epoch), epoch_order(5, 0, epoch))
        assert len(endless._epochs) <= 2
