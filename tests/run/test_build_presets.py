"""Every preset of the family, narrow: each of its phases is one graph that equals eager.

Values and their changes are compared.
"""
import gans
import pytest
import torch

from fastgan import models
from fastgan.config import presets
from fastgan.data import ResidentFeed
from fastgan.engine.engine import Engine
from fastgan.gan.phases import batches_per_step
from fastgan.gan.train_state import make_train_state
from fastgan.nn.pair import inspect_pair
from fastgan.ops.dispatch import autotune, registry
from fastgan.run.build import make_engine

FAMILY = [name for name in presets.PRESETS if name.endswith("-tiny")] + [
    "wgan-gp",
    "wgan-gp-64",
    "biggan-128",
    "cgan-mlp",
    "ring8-gp",
]
QUICK = ("wgan-gp-tiny", "r3gan-tiny", "ring8-gp")  # the others take 10 to 25 s each


@pytest.fixture(autouse=True)
def reference_operators(monkeypatch):
    """Use the reference operators; measurements on this machine are tested elsewhere."""
    monkeypatch.setattr(autotune, "_forced", dict.fromkeys(registry.OPS, "reference"))


def make(name: str) -> Engine:
    """Make the engine of a narrow preset on random images (or points).

    It always has the same weights and random numbers.
    """
    # eps: the gradient of a bias in front of BatchNorm is a rounding error around 0, which Adam's
    # first step would bring to full size.
    config = gans.tiny_config(name, run__batch_size=4, run__compile=False, optim__eps=1e-5)
    torch.manual_seed(0)
    G, D = models.build(config.model)
    signature = inspect_pair.inspect(G, D, config.model.z_dim, 4, gans.CPU, gans.classes_of(config))
    state = make_train_state(G, D, config, signature, gans.CPU, gans.FP32)
    random = torch.Generator().manual_seed(1)
    is_points = config.model.architecture == "points"
    rows = (
        torch.randn(64, 2, generator=random)
        if is_points
        else torch.randint(0, 256, (64, 16, 16, 1), dtype=torch.uint8, generator=random)
    )
    labels = torch.arange(64) % 3 if config.model.cond else None
    feed = ResidentFeed(rows, 4 * batches_per_step(config), 0, labels=labels)
    return make_engine(config, signature, state, feed, random, print)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=(pytest.mark.slow, pytest.mark.thorough)) for name in FAMILY],
)
def test_every_phase_is_one_graph(name):
    eager, traced = make(name), make(name)
    assert list(eager.system.phases) == list(traced.system.phases)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        for phase in eager.system.phases:
            torch.compiler.reset()
            for engine, step in (
                (eager, eager.system.phases[phase].step),
                (
                    traced,
                    torch.compile(traced.system.phases[phase].step, backend="aot_eager", fullgraph=True, dynamic=False),
                ),
            ):
                torch.manual_seed(2)  # of the networks' own random numbers
                step(engine.system.phases[phase].draw())
    torch.testing.assert_close(traced.system.state, eager.system.state, rtol=2e-3, atol=2e-4)


def _cancels_the_last_bias(name: str) -> bool:
    """Losses of differences cancel it."""
    return presets.preset(name).loss.name in ("wasserstein", "relativistic")


@pytest.mark.parametrize("name", FAMILY)
def test_all_of_both_networks_learns(name):
    engine = make(name)
    before = {
        group: {key: tensor.clone() for key, tensor in engine.system.state[group].items()} for group in ("G", "D")
    }
    engine.run(0, 20)
    for group, tensors in before.items():
        still = [key for key, tensor in tensors.items() if torch.equal(engine.system.state[group][key], tensor)]
        if group == "D" and _cancels_the_last_bias(name):
            still = [key for key in still if tensors[key].shape != (1,)]
        assert not still, f"{group} {still} did not move"
        assert all(bool(torch.isfinite(tensor).all()) for tensor in engine.system.state[group].values())
