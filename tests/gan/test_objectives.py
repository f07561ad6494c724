"""The phases' updates of the networks against a plain loop (plain_loop.py).

The plain loop is written out from the papers' losses and penalties.
"""

import plain_loop
import pytest
from plain_loop import D, G, config_of
from step_cases import CASES


def twins_of(case: dict, **more):
    overrides = case | more
    make_G, make_D = overrides.pop("make_G", G), overrides.pop("make_D", D)
    return plain_loop.twins(config_of(**overrides), make_G, make_D)


WITHOUT_COMPANY = {name: case for name, case in CASES.items() if "batch norm" not in name}


@pytest.mark.parametrize("case", WITHOUT_COMPANY.values(), ids=WITHOUT_COMPANY)
def test_the_phases_do_what_the_plain_loop_does(case):
    ours, plain = twins_of(case)
    ours.run(11)
    plain.run(11)
    plain_loop.assert_agree(ours, plain)


WITH_COMPANY = {name: case for name, case in CASES.items() if "batch norm" in name}


@pytest.mark.parametrize("case", WITH_COMPANY.values(), ids=WITH_COMPANY)
def test_statistics_of_batches_too(case):
    """The counters as well, for which the engine has to have watched a step of every phase."""
    ours, plain = twins_of(case)
    ours.prepare()
    ours.run(7)
    ours.state.counters.write()
    plain.run(7)
    plain_loop.assert_agree(ours, plain)


IN_PARTS = (
    "saturating, fresh", "hinge with random margins", "least squares", "relativistic, n_critic 2, fresh",
    "non_saturating with tricks", "noise", "mirror", "wgan-gp, n_critic 1", "wgan-gp, n_critic 2, fresh", "r3gan",
    "lazy r1 and r2 and gp", "clipping", "orthogonal", "augmented", "all of r3gan's", "map of logits", "reconstruction",
    "path length, n_critic 2, lazy r1", "classes, r3gan", "one-hot classes, gp, n_critic 2, fresh", "classifier, gp",
)  # fmt: skip


@pytest.mark.parametrize("name", IN_PARTS)
def test_a_batch_in_parts_is_the_whole_batch(name):
    """For networks that treat every image by itself. The plain loop takes the batch as a whole."""
    ours, plain = twins_of(CASES[name], run__batch_gpu=2)
    assert ours.state.num_parts == 2
    ours.run(6)
    plain.run(6)
    plain_loop.assert_agree(ours, plain)
