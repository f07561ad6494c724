import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgan.engine.phase_schedule import Cadence, Rhythm

UPDATE = {"update": Rhythm()}


@st.composite
def rhythms(draw):
    every = draw(st.dictionaries(st.sampled_from(["r1", "path_length", "G"]), st.integers(1, 6)))
    return UPDATE | {name: Rhythm(period, tuple(draw(st.sets(st.integers(0, period - 1), min_size=1)))) for name, period in every.items()}


@st.composite
def cadences(draw):
    return Cadence(draw(rhythms()), (draw(st.integers(0, 20)), draw(rhythms())) if draw(st.booleans()) else (0, {}))


def test_what_is_due():
    cadence = Cadence({"D": Rhythm(), "r1": Rhythm(4), "path": Rhythm(6, (5,))})
    assert [step for step in range(13) if "r1" in cadence.due(step)] == [0, 4, 8, 12]
    assert [step for step in range(13) if "path" in cadence.due(step)] == [5, 11]
    assert cadence.due(7) == ("D",)
    assert cadence.variants() == [("D", "r1"), ("D",), ("D", "path")]
    assert cadence.period == 12
    assert cadence.count(3, 9) == {"D": 9, "r1": 2, "path": 2}


def test_a_beginning_with_a_rhythm_of_its_own():
    cadence = Cadence({"D": Rhythm(), "G": Rhythm(5, (4,))}, (20, {"D": Rhythm(), "G": Rhythm(10, (9,))}))
    assert [step for step in range(40) if "G" in cadence.due(step)] == [9, 19, 24, 29, 34, 39]
    assert [len(launch) for launch in cadence.launches(15, 15, 5)] == [1] * 5 + [5, 5]
    assert (cadence.at_once(3, 100, 5), cadence.at_once(18, 100, 5), cadence.at_once(20, 100, 5)) == (5, 2, 5)


@given(cadences(), st.integers(0, 50), st.integers(0, 60), st.integers(1, 16))
def test_launches_are_the_steps_in_their_order_and_all_known_beforehand(cadence, first, num, size):
    launches = list(cadence.launches(first, num, size))
    assert [variant for launch in launches for variant in launch] == [cadence.due(step) for step in range(first, first + num)]
    assert set(launches) <= set(cadence.launches_of(size))
    assert all(len(launch) in (1, size) for launch in launches)
    assert cadence.count(first, num)["update"] == num
    assert len(launches) <= cadence.intro_steps + num // size + (2 if len(cadence.rhythms) > 1 else 1) * (size - 1)


@given(cadences(), st.integers(0, 40), st.integers(1, 12))
def test_asking_for_what_is_best_leads_to_whole_launches(cadence, first, size):
    begin = first
    while begin < cadence.intro_steps or begin % math.gcd(size, cadence.period):
        begin += cadence.at_once(begin, 1000, size)
    for step in range(begin, begin + 5 * size, size):
        assert cadence.at_once(step, 1000, size) == size
        assert len(list(cadence.launches(step, size, size))) == 1
    assert cadence.at_once(first, 1, size) == 1


@given(rhythms(), st.integers(0, 50), st.integers(1, 16))
def test_a_launch_may_begin_wherever_the_rhythm_allows_it(rhythms, first, size):
    """A tick ends anywhere, and the launches after it are as long as those before."""
    cadence = Cadence(rhythms)
    known = (cadence.due(step) for step in range(first, first + size))
    assert (tuple(known) in cadence.launches_of(size)) or first % size
    assert len(list(Cadence(UPDATE).launches(first, 3 * size, size))) == 3
    assert len(list(cadence.launches(first * cadence.period, size, size))) == 1


def test_the_rhythm_may_take_several_kinds_of_launches():
    lazy = Cadence(UPDATE | {"r1": Rhythm(16)})
    assert len(lazy.launches_of(8)) == 2 + 2  # single steps with and without; the first eight and the other eight
    assert len(lazy.launches_of(16)) == 2 + 1
    assert Cadence(UPDATE).launches_of(1) == [(("update",),)]


@pytest.mark.parametrize("rhythm", [Rhythm(0), Rhythm(3, (3,))])
def test_a_phase_is_due_within_a_period_of_at_least_one_step(rhythm):
    with pytest.raises(AssertionError):
        Cadence({"r1": rhythm})
