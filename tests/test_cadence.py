import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgan.cadence import Cadence

PERIODS = st.dictionaries(st.sampled_from(["r1", "path_length", "n_critic"]), st.integers(1, 6))


def test_what_is_due():
    cadence = Cadence({"r1": 4, "path": 6})
    assert [step for step in range(13) if "r1" in cadence.due(step)] == [0, 4, 8, 12]
    assert cadence.due(12) == ("r1", "path")
    assert cadence.due(7) == ()
    assert cadence.variants() == [("r1", "path"), (), ("r1",), ("path",)]
    assert cadence.period == 12
    assert Cadence().variants() == [()]


@given(PERIODS, st.integers(0, 50), st.integers(0, 60), st.integers(1, 16))
def test_launches_are_the_steps_in_their_order_and_all_known_beforehand(every, first, num, size):
    cadence = Cadence(every)
    launches = list(cadence.launches(first, num, size))
    assert [variant for launch in launches for variant in launch] == [cadence.due(step) for step in range(first, first + num)]
    assert set(launches) <= set(cadence.launches_of(size))
    assert all(len(launch) in (1, size) for launch in launches)
    assert cadence.count(first, num).total() == num
    assert len(launches) <= num // size + (2 if every else 1) * (size - 1)


@given(PERIODS, st.integers(0, 40), st.integers(1, 12))
def test_asking_for_what_is_best_leads_to_whole_launches(every, first, size):
    cadence = Cadence(every)
    begin = first if first % math.gcd(size, cadence.period) == 0 else first + cadence.at_once(first, 1000, size)
    for step in range(begin, begin + 5 * size, size):
        assert cadence.at_once(step, 1000, size) == size
        assert len(list(cadence.launches(step, size, size))) == 1
    assert cadence.at_once(first, 1, size) == 1


@given(PERIODS, st.integers(0, 50), st.integers(1, 16))
def test_a_launch_may_begin_wherever_the_rhythm_allows_it(every, first, size):
    """A tick ends anywhere, and the launches after it are as long as those before."""
    cadence = Cadence(every)
    known = (cadence.due(step) for step in range(first, first + size))
    assert (tuple(known) in cadence.launches_of(size)) or first % size
    assert len(list(Cadence().launches(first, 3 * size, size))) == 3
    assert len(list(cadence.launches(first * cadence.period, size, size))) == 1


def test_the_rhythm_may_take_several_kinds_of_launches():
    assert len(Cadence({"r1": 16}).launches_of(8)) == 2 + 2  # single steps with and without; the first eight and the other eight
    assert len(Cadence({"r1": 16}).launches_of(16)) == 2 + 1
    assert Cadence().launches_of(1) == [((),)]


def test_a_period_is_at_least_one_step():
    with pytest.raises(AssertionError):
        Cadence({"r1": 0})
