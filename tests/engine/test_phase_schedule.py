import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgan.engine.phase_schedule import Interval, PhaseSchedule

UPDATE = {"update": Interval()}


@st.composite
def intervals(draw):
    every = draw(st.dictionaries(st.sampled_from(["r1", "path_length", "G"]), st.integers(1, 6)))
    return UPDATE | {
        name: Interval(period, tuple(draw(st.sets(st.integers(0, period - 1), min_size=1))))
        for name, period in every.items()
    }


@st.composite
def cadences(draw):
    return PhaseSchedule(
        draw(intervals()), (draw(st.integers(0, 20)), draw(intervals())) if draw(st.booleans()) else (0, {})
    )


def test_what_is_due():
    phase_schedule = PhaseSchedule({"D": Interval(), "r1": Interval(4), "path": Interval(6, (5,))})
    assert [step for step in range(13) if "r1" in phase_schedule.due(step)] == [0, 4, 8, 12]
    assert [step for step in range(13) if "path" in phase_schedule.due(step)] == [5, 11]
    assert phase_schedule.due(7) == ("D",)
    assert phase_schedule.variants() == [("D", "r1"), ("D",), ("D", "path")]
    assert phase_schedule.period == 12
    assert phase_schedule.count(3, 9) == {"D": 9, "r1": 2, "path": 2}


def test_a_beginning_with_a_rhythm_of_its_own():
    phase_schedule = PhaseSchedule(
        {"D": Interval(), "G": Interval(5, (4,))}, (20, {"D": Interval(), "G": Interval(10, (9,))})
    )
    assert [step for step in range(40) if "G" in phase_schedule.due(step)] == [9, 19, 24, 29, 34, 39]
    assert [len(launch) for launch in phase_schedule.launches(15, 15, 5)] == [1] * 5 + [5, 5]
    assert (
        phase_schedule.at_once(3, 100, 5),
        phase_schedule.at_once(18, 100, 5),
        phase_schedule.at_once(20, 100, 5),
    ) == (5, 2, 5)


@given(cadences(), st.integers(0, 50), st.integers(0, 60), st.integers(1, 16))
def test_launches_are_the_steps_in_their_order_and_all_known_beforehand(phase_schedule, first, num, size):
    launches = list(phase_schedule.launches(first, num, size))
    assert [variant for launch in launches for variant in launch] == [
        phase_schedule.due(step) for step in range(first, first + num)
    ]
    assert set(launches) <= set(phase_schedule.launches_of(size))
    assert all(len(launch) in (1, size) for launch in launches)
    assert phase_schedule.count(first, num)["update"] == num
    assert len(launches) <= phase_schedule.intro_steps + num // size + (
        2 if len(phase_schedule.intervals) > 1 else 1
    ) * (size - 1)


@given(cadences(), st.integers(0, 40), st.integers(1, 12))
def test_asking_for_what_is_best_leads_to_whole_launches(phase_schedule, first, size):
    begin = first
    while begin < phase_schedule.intro_steps or begin % math.gcd(size, phase_schedule.period):
        begin += phase_schedule.at_once(begin, 1000, size)
    for step in range(begin, begin + 5 * size, size):
        assert phase_schedule.at_once(step, 1000, size) == size
        assert len(list(phase_schedule.launches(step, size, size))) == 1
    assert phase_schedule.at_once(first, 1, size) == 1


@given(intervals(), st.integers(0, 50), st.integers(1, 16))
def test_a_launch_may_begin_wherever_the_rhythm_allows_it(intervals, first, size):
    """A tick ends at any step, and the launches after it are as long as those before."""
    phase_schedule = PhaseSchedule(intervals)
    known = (phase_schedule.due(step) for step in range(first, first + size))
    assert (tuple(known) in phase_schedule.launches_of(size)) or first % size
    assert len(list(PhaseSchedule(UPDATE).launches(first, 3 * size, size))) == 3
    assert len(list(phase_schedule.launches(first * phase_schedule.period, size, size))) == 1


def test_the_rhythm_may_take_several_kinds_of_launches():
    lazy = PhaseSchedule(UPDATE | {"r1": Interval(16)})
    assert len(lazy.launches_of(8)) == 2 + 2  # single steps with and without; the first eight and the other eight
    assert len(lazy.launches_of(16)) == 2 + 1
    assert PhaseSchedule(UPDATE).launches_of(1) == [(("update",),)]


@pytest.mark.parametrize("interval", [Interval(0), Interval(3, (3,))])
def test_a_phase_is_due_within_a_period_of_at_least_one_step(interval):
    with pytest.raises(AssertionError):
        PhaseSchedule({"r1": interval})
