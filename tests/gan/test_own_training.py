"""Training with a caller's losses, functions of kimg and optimisers beside the options that they stand for."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_loop import CPU, FP32, D, G, config_of, make_feed
from torch import nn

from fastgan import Trainer, UserError
from fastgan.gan.forward import run_D, run_D_on_both
from fastgan.gan.inputs import StepInputs
from fastgan.gan.losses import OwnLosses
from fastgan.gan.objectives import d_loss, with_tried_losses
from fastgan.gan.own import Own
from fastgan.gan.train_state import make_train_state
from fastgan.nn.pair.inspect_pair import Signature
from fastgan.run import build

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 1), dtype=np.uint8)
WASSERSTEIN = (lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean())
HINGE = (lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(), lambda fake: -fake.mean())
CROSS_ENTROPY = (
    lambda real, fake: F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)),
    lambda fake: F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake)),
)


def trained(make_D=D, steps=8, **options):
    torch.manual_seed(0)
    options = {"batch_size": 8, "compile": False, "amp": False, "progress": False, "beta2": 0.9, "eps": 1e-3} | options
    trainer = Trainer(G(), make_D(), IMAGES, **options)
    trainer.fit(steps=steps)
    return trainer


def assert_same_weights(ours, theirs):
    for group in ("G", "D"):
        for name, tensor in ours.state.tensors()[group].items():
            torch.testing.assert_close(tensor, theirs.state.tensors()[group][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "own", "options"),
    [
        ("wasserstein", WASSERSTEIN, {"gp_weight": 10.0, "n_critic": 2, "fresh_fakes": True, "batch_gpu": 4}),
        ("hinge", HINGE, {"r1_gamma": 1.0, "r2_gamma": 0.5, "ema_kimg": 0.05, "augment": "diff"}),
        ("hinge", HINGE, {"r1_gamma": 1.0, "D_reg_interval": 2, "instance_noise": 0.1, "mirror": True}),
        ("non_saturating", CROSS_ENTROPY, {"augment": "ada", "gamma_end": 0.5, "r1_gamma": 1.0, "decay_kimg": 0.05}),
    ],
)
def test_a_pair_of_functions_is_the_named_loss(name, own, options):
    ours, theirs = trained(loss=own, **options), trained(loss=name, **options)
    assert ours.config.loss.name == "custom"
    assert_same_weights(ours, theirs)
    assert ours.last_finite["real_logits"] == pytest.approx(theirs.last_finite["real_logits"], rel=1e-3, abs=1e-4)


def test_a_loss_of_probabilities_sees_them():
    """D's sigmoid stays, unlike for a named loss, which applies its own."""

    def make_D():
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Sigmoid())

    own = (
        lambda real, fake: F.binary_cross_entropy(real, torch.ones_like(real))
        + F.binary_cross_entropy(fake, torch.zeros_like(fake)),
        lambda fake: F.binary_cross_entropy(fake, torch.ones_like(fake)),
    )
    ours = trained(make_D, loss=own)
    assert isinstance(ours.state.D[-1], nn.Sigmoid)
    theirs = trained(make_D, loss="non_saturating")
    assert isinstance(theirs.state.D[-1], nn.Identity)
    assert_same_weights(ours, theirs)


def test_a_loss_of_G_that_compares_gets_the_real_images_of_the_step():
    """G is pulled to the mean output of real images: a loss whose minimum depends on them."""
    seen = []

    def g_loss(fake, real):
        seen.append((fake.requires_grad, real.requires_grad, len(real)))
        return (fake.mean() - real.mean()).square()

    own = (HINGE[0], g_loss)
    for options in ({}, {"n_critic": 2, "fresh_fakes": True}, {"batch_gpu": 4}):
        seen.clear()
        trainer = trained(loss=own, steps=4, **options)
        assert trainer.nimg == 32
        assert set(seen[1:]) == {(True, False, options.get("batch_gpu", 8))}  # the first is a trial


def test_a_function_of_kimg_is_the_named_schedule():
    function = {"lr": (lambda kimg: 1e-2 * torch.clamp(1 - kimg / 0.06, min=0.25), lambda kimg: 2e-2 + 0 * kimg)}
    ours = trained(**function, r1_gamma=lambda kimg: 1 - 0.5 * torch.clamp(kimg / 0.06, max=1))
    state = ours.state
    assert [state.optimizer_G.lr.item(), state.optimizer_D.lr.item()] == pytest.approx([2.5e-3, 2e-2])
    assert state.weight("penalty.r1_gamma").item() == pytest.approx(1 - 0.5 * 56 / 60)
    named = {"lr": 1e-2, "decay": "linear", "decay_kimg": 0.06, "r1_gamma": 1.0, "gamma_end": 0.5}
    function = {"lr": lambda kimg: 1e-2 * torch.clamp(1 - kimg / 0.06, min=0),
                "r1_gamma": lambda kimg: 1 - 0.5 * torch.clamp(kimg / 0.06, max=1)}  # fmt: skip
    for more in ({}, {"D_reg_interval": 2}):
        assert_same_weights(trained(**function, **more), trained(**named, **more))


def test_an_optimiser_of_torch_is_the_named_one():
    def make(kind, **values):
        torch.manual_seed(0)
        networks = G(), D()
        options = {"batch_size": 8, "compile": False, "amp": False, "progress": False}
        pair = tuple(kind(network.parameters(), **values) for network in networks)
        trainer = Trainer(*networks, IMAGES, optimizer=pair, **options)
        trainer.fit(steps=8)
        return trainer

    ours = make(torch.optim.AdamW, lr=1e-3, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)
    assert_same_weights(ours, trained(optimizer="adamw", lr=1e-3, weight_decay=0.1))


# --- what D may return ------------------------------------------------------------------------------------------------


class Returning(D):
    """D whose output is made of its logits and its features."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, img):
        h = F.silu(self.again(F.silu(self.down(img)))).flatten(1)
        return self.make(self.last(h), h)


OUTPUTS = {
    "a tuple": (lambda logits, h: (logits, h), lambda out: out[0], lambda out: out[1], None),
    "a dict": (lambda logits, h: {"h": h, "validity": logits}, lambda out: out["validity"], lambda out: out["h"], None),
    "nested": (lambda logits, h: {"a": [h, (logits, 3)]}, lambda out: out["a"][1][0], lambda out: out["a"][0], None),
    "named by the caller": (lambda logits, h: (h, h[:, :1], logits), lambda out: out[2], lambda out: out[0],
                            lambda out: out[2]),
}  # fmt: skip


def state_of(make_output, own, one_pass=False, **options):
    torch.manual_seed(0)
    config = config_of(loss__name="custom", **options)
    signature = Signature((5,), (1, 16, 16), one_pass, (), 4)
    return make_train_state(G(), Returning(make_output), config, signature, CPU, FP32, Own(own))


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("one_pass", [False, True])
def test_losses_see_what_D_returns(name, one_pass):
    make, logits_in, features_in, logits = OUTPUTS[name]
    own = OwnLosses(
        lambda real, fake: logits_in(fake).mean() - logits_in(real).mean(),
        lambda fake, real: (features_in(fake).mean(0) - features_in(real).mean(0)).square().sum(),
        True,
        logits,
    )
    state = state_of(make, own, one_pass, penalty__r1_gamma=1.0, penalty__r2_gamma=1.0)
    state = with_tried_losses(state, (5,), 4)
    assert state.one_pass == (one_pass and name != "nested")  # 3 has no row an image
    real_img, fake_img = torch.rand(4, 1, 16, 16), torch.rand(4, 1, 16, 16)
    real, fake = run_D_on_both(state, real_img, fake_img, None)
    for output, img in ((real, real_img), (fake, fake_img)):
        torch.testing.assert_close(logits_in(output.own), logits_in(state.D(img)))
        torch.testing.assert_close(features_in(output.own), features_in(state.D(img)))
        assert torch.equal(output.logits, logits_in(output.own))
    loss, statistics = d_loss(state, StepInputs(), real_img, fake_img)
    assert torch.isfinite(loss)
    assert statistics["r1_penalty"] > 0
    assert statistics["r2_penalty"] > 0


def test_outputs_are_float32():
    own = OwnLosses(lambda real, fake: fake[0].mean(), lambda fake: fake[0].mean())
    state = state_of(lambda logits, h: (logits.bfloat16(), h.double(), torch.arange(4)), own)
    output = run_D(state, torch.rand(4, 1, 16, 16), None).own
    assert [tensor.dtype for tensor in output] == [torch.float32, torch.float32, torch.int64]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ((lambda real, fake: fake["logits"].mean(), HINGE[1]), "d_loss fails on D's output, a tensor [8]"),
        ((lambda real, fake: fake - real, HINGE[1]), "d_loss must return a tensor with one number"),
        ((HINGE[0], lambda fake: 1.0), "g_loss must return a tensor with one number that depends on D's output"),
        ((HINGE[0], lambda fake: -fake.mean().detach()), "not a tensor [] without a gradient"),
        ((HINGE[0], lambda fake, real, more: fake), "g_loss fails on D's output"),
    ],
)
def test_a_loss_that_fails_is_said_before_training(own, words):
    with pytest.raises(UserError) as caught:
        trained(loss=own)
    assert words in str(caught.value)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_the_same_objects(tmp_path):
    options = {"loss": HINGE, "lr": lambda kimg: 1e-2 / (1 + kimg), "optimizer": "sgd", "momentum": 0.5}
    whole = trained(steps=8, **options)
    trained(steps=4, out=tmp_path / "run", **options)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "the losses are the caller's" in log
    assert "the caller's functions of kimg set optim.lr_G and optim.lr_D" in log
    assert '"name": "custom"' in (tmp_path / "run" / "training_options.json").read_text()
    resumed = trained(steps=8, out=tmp_path / "run", resume=True, **options)
    for group, tensors in whole.state.tensors().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, resumed.state.tensors()[group][name]), (group, name)
    with pytest.raises(UserError, match=r"give loss=\(d_loss, g_loss\) again"):
        trained(config=whole.config)


@pytest.mark.slow
def test_the_compiled_step_agrees():
    options = {"lr": lambda kimg: 1e-3 * torch.exp(-kimg), "optimizer": ("adamw", "lion"), "grad_clip": 1.0}
    trainer = trained(loss=HINGE, gp_weight=lambda kimg: 1 + kimg, compile=True, **options)
    assert trainer.engine.rung.name == "compiled"


@pytest.mark.thorough
def test_feature_matching_is_part_of_the_compiled_step():
    own = OwnLosses(
        lambda real, fake: HINGE[0](real["logits"], fake["logits"]),
        lambda fake, real: F.l1_loss(fake["features"][0].mean(0), real["features"][0].mean(0)),
        True,
    )
    options = {"penalty__r1_gamma": 1.0, "loss__n_critic": 2, "loss__fresh_fakes": True, "run__compile": True}
    state = state_of(lambda logits, h: {"features": (h,), "logits": logits}, own, True, **options)
    config, reports, generator = config_of(loss__name="custom", **options), [], torch.Generator().manual_seed(0)
    feed, signature = make_feed(config), Signature((5,), (1, 16, 16), True, (), 4)
    engine = build.make_engine(config, signature, state, feed, generator, reports.append)
    feed.reserve(feed.max_steps)
    assert engine.prepare().name == "compiled", reports
    assert not any("not used" in report for report in reports)
