"""The step against a plain loop written with backward() and torch.optim.

Further tests cover the work that the step must not do.
"""
import copy
from collections import Counter
from types import SimpleNamespace

import gans
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastgan import models
from fastgan.data.feeds.feed import Window
from fastgan.gan import step
from fastgan.gan.forward import _run_D_with_cross_entropy as run_with_cross_entropy
from fastgan.gan.inputs import StepInputs
from fastgan.gan.step import update
from fastgan.gan.train_state import make_train_state
from fastgan.nn.layers import BatchNorm2d, OverParts, in_parts
from fastgan.nn.pair import inspect_pair
from fastgan.nn.pair.calls import Calls
from fastgan.ops.dispatch import autotune, registry

LOSSES = [
    {},
    {"name": "saturating"},
    {"smooth_real": 0.1},
    {"smooth_real": 0.1, "smooth_fake": 0.2},
    {"flip_labels": 0.3},
    {"instance_noise": 0.5},
    {"fresh_fakes": True},
]


class CountOperations(TorchDispatchMode):
    """Counts of each operation that runs.

    Convolutions are counted by transposition, and backward ones by the gradients that they compute.
    """

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name == "convolution":
            name += " transposed" * args[6]
        if name == "convolution_backward":
            name += f" input={args[-1][0]} weight={args[-1][1]}"
        if name == "leaky_relu_bce_backward":
            name += f" input={args[-2]} weight={args[-1]}"
        self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def plain_step(G, D, optimizer_G, optimizer_D, config, inputs):
    """Run the textbook update: cross-entropy from logits, backward(), torch.optim."""
    loss, num = config.loss, len(inputs.real_img)
    real_img, low = inputs.real_img, config.model.img_low
    if real_img.dtype == torch.uint8:
        real_img = real_img / 255 * (1 - low) + low
    real_label, fake_label = torch.full((num, 1), 1 - loss.smooth_real), torch.full((num, 1), loss.smooth_fake)
    if inputs.flips is not None:
        swap_real, swap_fake = inputs.flips < loss.flip_labels
        real_label, fake_label = (
            torch.where(swap_real, fake_label, real_label),
            torch.where(swap_fake, real_label, fake_label),
        )

    def noised(img, index):
        return img if inputs.noise is None else img + loss.instance_noise * inputs.noise[index]

    def bce(logits, label):
        return F.binary_cross_entropy_with_logits(logits.view(-1, 1), label[: logits.numel()])

    fake_img = G(inputs.z)
    d_loss = bce(D(noised(real_img, 0)), real_label) + bce(D(noised(fake_img.detach(), 1)), fake_label)
    optimizer_D.zero_grad()
    d_loss.backward()
    optimizer_D.step()
    if inputs.fresh_z is not None:
        fake_img = G(inputs.fresh_z)
    logits = D(noised(fake_img, 2))
    one = torch.ones(num, 1)
    g_loss = bce(logits, one) if loss.name == "non_saturating" else -bce(logits, 0 * one)
    optimizer_G.zero_grad()
    g_loss.backward()
    optimizer_G.step()
    return d_loss.item(), g_loss.item()


def check_against_plain(config):
    state = gans.tiny_networks(config)
    G, D = copy.deepcopy(state.G), copy.deepcopy(state.D)
    betas = (config.optim.beta1, config.optim.beta2)
    optimizer_G = torch.optim.Adam(G.parameters(), config.optim.lr_G, betas, config.optim.eps)
    optimizer_D = torch.optim.Adam(D.parameters(), config.optim.lr_D, betas, config.optim.eps)
    for seed in range(3):
        inputs = gans.random_inputs(config, seed)
        statistics = {name: value.item() for name, value in update(state, inputs).items()}
        d_loss, g_loss = plain_step(G, D, optimizer_G, optimizer_D, config, inputs)
        assert statistics["d_loss"] == pytest.approx(d_loss, rel=1e-3, abs=1e-4)
        assert statistics["g_loss"] == pytest.approx(g_loss, rel=1e-3, abs=1e-4)
    for ours, theirs in ((state.G, G), (state.D, D)):
        for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            # A gradient of rounding size may turn one Adam step of lr around: almost all elements
            # agree closely, none is further off than that.
            assert (a - b).abs().double().mean() < 2e-6 + 1e-4 * b.abs().double().mean(), name


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_every_preset_takes_the_textbook_step(preset):
    check_against_plain(gans.tiny_config(preset))


@pytest.mark.parametrize("changes", LOSSES, ids=str)
@pytest.mark.parametrize("preset", ["mlp", "dcgan"])
def test_every_loss_option_takes_the_textbook_step(preset, changes):
    check_against_plain(gans.with_loss(gans.tiny_config(preset), **changes))


@pytest.mark.parametrize(("resolution", "channels", "batch_size"), [(16, 3, 1), (32, 1, 5), (16, 3, 7)])
def test_odd_batches_and_colour(resolution, channels, batch_size):
    overrides = {"model__img_resolution": resolution, "model__img_channels": channels, "run__batch_size": batch_size}
    check_against_plain(gans.tiny_config("mlp", **overrides))
    if batch_size > 1:
        check_against_plain(gans.tiny_config("dcgan", **overrides))


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("mlp", {}),
        ("dcgan", {}),
        ("dcgan", {"run__batch_gpu": 4}),
        ("dcgan", {"loss__name": "hinge"}),
        ("dcgan", {"penalty__r1_gamma": 1.0, "penalty__r2_gamma": 1.0}),
        ("stylegan2-tiny", {"run__batch_size": 8}),
    ],
    ids=str,
)
def test_real_and_fake_in_one_pass_gives_the_same_update(preset, overrides):
    """The step has the same statistics, weights and BatchNorm running statistics and counters."""
    config = gans.tiny_config(preset, **overrides)
    inputs = gans.random_inputs(config)
    one, two = gans.tiny_networks(config), gans.tiny_networks(config)
    assert one.one_pass
    two = type(two)(**{**vars(two), "one_pass": False})
    statistics = []
    for state in (one, two):
        torch.manual_seed(0)  # G's noise
        statistics.append(update(state, inputs))
    torch.testing.assert_close(*statistics)
    torch.testing.assert_close(dict(one.D.named_buffers()), dict(two.D.named_buffers()))
    for a, b in zip(one.D.parameters(), two.D.parameters(), strict=True):
        assert (a - b).abs().mean() < 1e-6
    assert all(layer.parts == 1 for layer in one.D.modules() if isinstance(layer, OverParts))


def test_batchnorm_sees_real_and_fake_separately():
    """The running mean of D's first BatchNorm is that of two passes and the pass of G's step.

    It is not that of a mixed batch.
    """
    config = gans.tiny_config("dcgan")
    state = gans.tiny_networks(config)
    batchnorms = [module for module in state.D.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    seen = []
    batchnorms[0].register_forward_pre_hook(lambda layer, args: seen.append((args[0].detach(), layer.parts)))
    update(state, gans.random_inputs(config))
    assert [parts for _, parts in seen] == [2, 1]
    expected = torch.zeros_like(batchnorms[0].running_mean)
    for batch in (*seen[0][0].chunk(2), seen[1][0]):
        expected += 0.1 * (batch.mean((0, 2, 3)) - expected)
    torch.testing.assert_close(batchnorms[0].running_mean, expected)
    assert all(module.num_batches_tracked == 3 for module in batchnorms)
    assert all(
        module.num_batches_tracked == 1 for module in state.G.modules() if isinstance(module, torch.nn.BatchNorm2d)
    )


def test_halves_of_a_batch_are_compiled_once_and_leave_nothing_behind():
    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(1, 2, 2), BatchNorm2d(2, "leaky_relu"), nn.Conv2d(2, 1, 2), BatchNorm2d(1))
    eager, counter = copy.deepcopy(D), CompileCounterWithBackend("aot_eager")

    def step(D, img):
        with in_parts(D, 2):
            both = D(img)
        return torch.autograd.grad((both.square().sum() + D(img[:2]).sum()), list(D.parameters()))

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        run = torch.compile(step, backend=counter, fullgraph=True, dynamic=False)
        for _ in range(3):
            img = torch.randn(4, 1, 5, 5)
            torch.testing.assert_close(run(D, img), step(eager, img))
    assert counter.frame_count == 1
    torch.testing.assert_close(D.state_dict(), eager.state_dict())
    assert [D[1].parts, D[3].parts] == [1, 1]


@pytest.fixture
def native_head(monkeypatch):
    """Use torch's own convolutions, and the library's end of D, for tests that count operators."""
    monkeypatch.setattr(autotune, "_forced", {"deconv": "reference"})
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))


def test_no_wasted_convolutions(native_head):
    config = gans.tiny_config("dcgan")
    state, inputs = gans.tiny_networks(config), gans.random_inputs(config)
    with CountOperations() as operations:
        update(state, inputs)
    assert {name: count for name, count in operations.counts.items() if "conv" in name or name == "mm"} == gans.NO_WASTE
    assert operations.counts["leaky_relu_bce"] == 2
    assert operations.counts["leaky_relu_bce_backward input=True weight=True"] == 1  # D
    assert operations.counts["leaky_relu_bce_backward input=True weight=False"] == 1  # G


def test_real_and_fake_in_one_pass_end_in_one_call(native_head):
    config = gans.tiny_config("mlp")
    state, inputs = gans.tiny_networks(config), gans.random_inputs(config)
    with CountOperations() as operations:
        update(state, inputs)
    assert operations.counts["leaky_relu_bce"] == 2
    assert operations.counts["leaky_relu_bce_backward input=True weight=True"] == 1
    assert operations.counts["leaky_relu_bce_backward input=True weight=False"] == 1


def test_fresh_fakes_cost_one_more_forward_pass_of_g(native_head):
    config = gans.tiny_config("dcgan", loss__fresh_fakes=True)
    state, inputs = gans.tiny_networks(config), gans.random_inputs(config)
    with CountOperations() as operations:
        update(state, inputs)
    expected = gans.NO_WASTE | {
        "convolution transposed": gans.NO_WASTE["convolution transposed"] + 2,
        "mm": gans.NO_WASTE["mm"] + 1,
    }
    assert {name: count for name, count in operations.counts.items() if name in expected} == expected


def test_totals_are_the_sum_of_the_steps():
    config = gans.tiny_config("mlp")
    state = gans.tiny_networks(config)
    steps = [update(state, gans.random_inputs(config, seed)) for seed in range(4)]
    expected = {name: sum(each[name].item() for each in steps) / 4 for name in steps[0]}
    assert state.totals.means(state.totals.tensor.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_the_average_follows_g_inside_the_step(optimizer):
    # A half-life of one batch: beta = 0.5
    config = gans.tiny_config("mlp", optim__name=optimizer, optim__ema_kimg=0.008)
    state = gans.tiny_networks(config)
    before = [parameter.clone() for parameter in state.G_ema.parameters()]
    update(state, gans.random_inputs(config))
    for old, average, source in zip(before, state.G_ema.parameters(), state.G.parameters(), strict=True):
        torch.testing.assert_close(average, (old + source) / 2)
    assert any(not torch.equal(old, new) for old, new in zip(before, state.G_ema.parameters(), strict=True))


@pytest.mark.parametrize("target", [0.9, torch.tensor([[0.1], [1.0]])], ids=str)
def test_a_map_of_logits_is_a_loss_over_all_of_them(target):
    D = torch.nn.Conv2d(1, 1, 4, 4)
    img = torch.randn(2, 1, 16, 16)
    output = run_with_cross_entropy(SimpleNamespace(D=D, precision=gans.FP32, calls=Calls()), img, target)
    loss, logits = output.cross_entropy, output.logits
    assert loss.shape == logits.shape == (2, 16)
    assert loss.dtype == logits.dtype == torch.float32
    assert torch.equal(logits, D(img).flatten(1))
    label = torch.as_tensor(target).expand_as(logits)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, label, reduction="none"))


class PlainEnd(torch.nn.Module):
    """The same D as a user may have it, whose `head` and `features` mean something else."""

    def __init__(self, D):
        super().__init__()
        self.D, self.head, self.features = D, torch.nn.Identity(), None

    def forward(self, img):
        return self.D(img)


@pytest.mark.parametrize("target", [1.0, 0.9, "vector"], ids=str)
@pytest.mark.parametrize("preset", gans.PLAIN)
def test_the_fused_end_gives_what_the_plain_one_gives(preset, target):
    config = gans.tiny_config(preset)
    D = gans.tiny_networks(config).D
    fake_img = gans.tiny_networks(config).G(gans.random_inputs(config).z).detach()
    if target == "vector":
        target = torch.rand(len(D(fake_img)), 1)
    states = [SimpleNamespace(D=each, precision=gans.FP32, calls=Calls()) for each in (D, PlainEnd(D))]
    fused, plain = (run_with_cross_entropy(state, fake_img, target) for state in states)
    torch.testing.assert_close(fused.cross_entropy, plain.cross_entropy)
    torch.testing.assert_close(fused.logits, plain.logits)
    parameters = list(D.parameters())
    gradients = (torch.autograd.grad(each.cross_entropy.mean(), parameters) for each in (fused, plain))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_instance_noise_falls_to_zero_by_the_images_shown():
    """The schedule is part of the step: the images are counted on the device."""
    config = gans.with_loss(gans.tiny_config("mlp"), instance_noise=0.4, instance_noise_kimg=0.032)
    state, inputs = gans.tiny_networks(config), gans.random_inputs(config)
    img, noise = torch.zeros(8, 1, 16, 16), torch.ones(3, 8, 1, 16, 16)
    levels = []
    for _ in range(6):
        levels.append(step._as_D_sees_it(state, img, inputs._replace(noise=noise), 0, 0).mean().item())
        update(state, inputs)
    assert levels == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0, 0.0], abs=1e-6)
    assert state.nimg == 48


def test_mirrored_real_images():
    config = gans.tiny_config("mlp")
    inputs = gans.random_inputs(config)
    uniform = torch.linspace(0, 1, 8).view(8, 1, 1, 1)
    seen = step._real_images(gans.tiny_networks(config), inputs._replace(mirror=uniform), inputs.real_img)
    plain = inputs.real_img / 127.5 - 1
    torch.testing.assert_close(seen, torch.cat([plain[:4].flip(3), plain[4:]]))


class OnlyOn(TorchDispatchMode):
    """A guard that raises where a tensor of another device is used.

    A recording cannot read memory of the host again.
    """

    def __init__(self, device_type: str):
        super().__init__()
        self.device_type = device_type

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        strangers = [
            x
            for x in tree_leaves((args, kwargs, outputs))
            if isinstance(x, torch.Tensor) and x.device.type != self.device_type
        ]
        assert not strangers, f"{func} meets {strangers[0]}"
        return outputs


@pytest.mark.parametrize("changes", [*LOSSES, {"instance_noise": 0.5, "instance_noise_kimg": 1.0}], ids=str)
@pytest.mark.parametrize(("preset", "optimizer"), [("mlp", "rmsprop"), ("dcgan", "adam")])
def test_everything_stays_on_the_device(monkeypatch, preset, optimizer, changes):
    """The device has no values, so that none can be asked for either."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)  # which does not know this device
    config = gans.with_loss(gans.tiny_config(preset, optim__ema_kimg=1.0, optim__name=optimizer), **changes)
    torch.manual_seed(0)
    G, D = models.build(config.model)
    signature = inspect_pair.inspect(G, D, config.model.z_dim, config.run.batch_size, gans.CPU)
    state = make_train_state(G, D, config, signature, torch.device("meta"), gans.FP32)
    inputs = gans.random_inputs(config)
    rows = Window(
        torch.zeros(20, 16, 16, 1, dtype=torch.uint8, device="meta"),
        torch.zeros(40, dtype=torch.int64, device="meta"),
        8,
    )
    inputs = type(inputs)(*(None if x is None else x.to("meta") for x in inputs))._replace(
        mirror=torch.zeros(8, 1, 1, 1, device="meta")
    )
    with OnlyOn("meta"), state.counters.off():
        update(state, inputs._replace(real_img=rows.read().img))


def test_parameters_that_share_a_gradient_keep_it_in_parts_of_a_batch():
    """Autograd gives one tensor as the gradient of both parameters of a sum."""
    first, second = (torch.zeros(3, requires_grad=True) for _ in range(2))

    def gradients(part):
        loss = (part.z + (first + second)).square().mean()
        return step.gradients_of(loss, [first, second]), {"d_loss": loss.detach()}

    inputs = StepInputs(z=torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    (whole, statistics), (in_parts, means) = (
        step._over_parts(SimpleNamespace(num_parts=num), inputs, gradients) for num in (1, 4)
    )
    assert whole[0] is whole[1]
    torch.testing.assert_close(in_parts, whole)
    torch.testing.assert_close(means, statistics)
