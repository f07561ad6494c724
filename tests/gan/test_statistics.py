"""Statistics of the steps: sums and means, and their way to the host."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastgan.gan.statistics import Readout, Totals

CPU = torch.device("cpu")
NAMES = ("d_loss", "g_loss", "r1_penalty")


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), st.floats(-100, 100)), max_size=12))
def test_a_mean_is_over_the_steps_that_recorded_it(steps):
    totals = Totals(NAMES, CPU)
    place = totals.tensor.data_ptr()
    for values in steps:
        totals.add({name: torch.tensor(value) for name, value in values.items()})
    recorded = {name: [values[name] for values in steps if name in values] for name in NAMES}
    expected = {name: sum(values) / len(values) for name, values in recorded.items() if values}
    assert totals.means(totals.tensor.tolist()) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert totals.tensor.data_ptr() == place


def test_a_new_tick_begins_with_zeros():
    totals = Totals(NAMES, CPU)
    totals.add({"d_loss": torch.tensor(3.0), "r1_penalty": torch.tensor(5.0)})
    assert totals.tensor.tolist() == [3, 0, 5, 1, 0, 1]
    totals.tensor.zero_()
    totals.add({"d_loss": torch.tensor(7.0)})
    assert totals.means(totals.tensor.tolist()) == {"d_loss": 7}


def test_values_of_lower_precision_and_with_a_graph_are_taken_as_they_are():
    totals = Totals(NAMES, CPU)
    totals.add({"d_loss": torch.tensor(1.5, dtype=torch.bfloat16, requires_grad=True)})
    assert not totals.tensor.requires_grad
    assert totals.means(totals.tensor.tolist()) == {"d_loss": 1.5}


def test_what_is_not_finite_shows_in_its_own_mean_alone():
    totals = Totals(NAMES, CPU)
    totals.add({"d_loss": torch.tensor(1.0), "g_loss": torch.tensor(float("nan"))})
    means = totals.means(totals.tensor.tolist())
    assert means["d_loss"] == 1
    assert means["g_loss"] != means["g_loss"]


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
