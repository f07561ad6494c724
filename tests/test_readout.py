import pytest
import torch

from fastgan.readout import Readout


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_sums_are_taken_once(device):
    totals = torch.zeros(3, device=device)
    readout, address = Readout(totals), totals.data_ptr()
    totals.add_(torch.tensor([1.0, 2.0, float("inf")], device=device))
    assert readout.take() == [1.0, 2.0, float("inf")]
    assert readout.take() == [0.0, 0.0, 0.0]
    totals.add_(5)
    totals.add_(5)
    assert readout.take() == [10.0, 10.0, 10.0]
    assert totals.data_ptr() == address
