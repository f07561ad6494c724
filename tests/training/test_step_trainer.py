"""A step of one's own: compiled as its eager self, resumed to the bit, and its mistakes told by name."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan import Trainer, UserError
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.nn import GaussianNoise, ImagePool


def images(num=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, 8, 8, 3), dtype=np.uint8)


def nets(seed=0):
    torch.manual_seed(seed)
    G = nn.Sequential(nn.Linear(6, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 192), nn.Unflatten(1, (3, 8, 8)))
    D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Flatten(), nn.Linear(128, 1))
    return {"G": G, "D": D}


def step(nets, batch, draw, update):
    fake = nets["G"](draw.normal("z", 8, 6))
    d = F.softplus(nets["D"](fake.detach())).mean() + F.softplus(-nets["D"](batch["img"])).mean()
    update("D", d)
    g = F.softplus(-nets["D"](fake)).mean()
    update("G", g)
    return {"d_loss": d, "g_loss": g}


def penalty(nets, batch, draw, update):
    img = batch["img"].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(nets["D"](img).sum(), img, create_graph=True)
    r1 = gradient.square().sum((1, 2, 3)).mean()
    update("D", 4 * r1)
    return {"r1": r1}


def make(step=step, data=None, seed=0, **options):
    adam = {"lr": 1e-3, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3}
    options = {"batch_size": 8, "compile": False, "amp": False, "progress": False,
               "optimizers": {"G": adam, "D": adam}} | options  # fmt: skip
    return Trainer.from_step(step, nets=nets(seed), data=images() if data is None else data, **options)


def test_a_step_is_what_a_plain_loop_makes_of_it():
    """torch.optim's Adam with backward(), on the batches and numbers that the trainer draws."""
    trainer = make()
    networks = nets()
    optimizers = {name: torch.optim.Adam(net.parameters(), 1e-3, (0.5, 0.9), 1e-3) for name, net in networks.items()}
    for network in networks.values():
        network.to(memory_format=torch.channels_last).train()
    twin = make()
    torch.manual_seed(3)
    for _ in range(4):
        z = torch.randn(8, 6, generator=twin.generator)
        real = twin.feed.next_batch().fields["img"].float() / 127.5 - 1
        fake = networks["G"](z)
        d = (F.softplus(networks["D"](fake.detach())).mean()
             + F.softplus(-networks["D"](real.contiguous(memory_format=torch.channels_last))).mean())  # fmt: skip
        d_gradients = torch.autograd.grad(d, list(networks["D"].parameters()))
        _apply(optimizers["D"], networks["D"], d_gradients)
        g = F.softplus(-networks["D"](fake)).mean()
        _apply(optimizers["G"], networks["G"], torch.autograd.grad(g, list(networks["G"].parameters())))
    torch.manual_seed(3)
    trainer.engine.run(0, 4)
    for name, network in networks.items():
        for ours, theirs in zip(trainer.state.nets[name].parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def _apply(optimizer, network, gradients):
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def test_the_compiled_step_is_the_eager_one():
    ends = []
    for compile in (False, True):
        trainer = make(None, steps={"main": step, "r1": (penalty, 2)}, ema=["G"], compile=compile)
        statistics = trainer.fit(steps=6)
        assert statistics["rung"] == ("compiled" if compile else "eager")
        assert len(trainer.engine.phases.graphs) == (2 if compile else 0)
        ends.append({name: tensor.clone() for name, tensor in trainer.state.weights().items()})
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=2e-3, atol=2e-4)


def test_graphs_of_several_steps_are_the_eager_ones(monkeypatch):
    ends = []
    for graphs in (None, RecordedGraphs()):
        monkeypatch.setattr("fastgan.training.step_trainer.graphs_of", lambda device, generators, graphs=graphs: graphs)
        trainer = make(None, steps={"main": step, "r1": (penalty, 2)}, graph_steps=2)
        assert trainer.fit(steps=6)["rung"] == ("captured" if graphs else "eager")
        ends.append(trainer.state.weights())
    assert all(torch.equal(ends[0][name], tensor) for name, tensor in ends[1].items())


def test_a_run_is_resumed_to_the_bit(tmp_path):
    states = []
    for folder, lengths in (("whole", [7]), ("halves", [3, 7])):
        torch.manual_seed(5)
        for part, steps in enumerate(lengths):
            trainer = make(ema=["G"], sample=lambda nets, draw: nets["G"](draw.normal("z", 4, 6)), seed=part,
                           out=tmp_path / folder, resume=part > 0)  # fmt: skip
            torch.manual_seed(5) if part == 0 else None
            trainer.fit(steps=steps)
        states.append(trainer.state.tensors())
    for group, tensors in states[0].items():
        assert all(torch.equal(tensor, states[1][group][name]) for name, tensor in tensors.items()), group
    assert (tmp_path / "whole" / "fakes000000.png").exists()
    assert (tmp_path / "whole" / "network-snapshot-000000.safetensors").exists()


def test_samples_are_of_the_average_and_leave_no_trace():
    trainer = make(ema=["G"], sample=lambda nets, draw: nets["G"](draw.normal("z", 4, 6)))
    trainer.fit(steps=2)
    before = trainer.generator.get_state(), torch.get_rng_state()
    samples = trainer.sample(seed=1)
    assert samples.shape == (4, 3, 8, 8)
    assert torch.equal(samples, trainer.sample(seed=1))
    assert not torch.equal(samples, trainer.sample(seed=2))
    assert torch.equal(before[0], trainer.generator.get_state())
    assert torch.equal(before[1], torch.get_rng_state())
    with torch.no_grad():
        for parameter in trainer.state.nets["G"].parameters():
            parameter.zero_()
    assert torch.equal(samples, trainer.sample(seed=1))


def test_a_step_may_start_late_and_see_the_clock():
    def late(nets, batch, draw, update):
        loss = nets["D"](batch["img"]).square().mean()
        update("D", loss)
        return {"late": loss, "clock": draw.kimg}

    trainer = make(None, steps={"main": step, "late": late}, start={"late": 3}, tick_kimg=0.008)
    ticks = list(trainer.ticks(steps=5))
    assert ["late" in tick for tick in ticks] == [False, False, False, True, True]
    assert [tick["clock"] for tick in ticks[3:]] == pytest.approx([0.032, 0.04])


def test_fields_keep_their_dtypes_and_belong_together():
    seen = []

    def look(nets, batch, draw, update):
        seen.append({name: (field.dtype, tuple(field.shape)) for name, field in batch.items()})
        update("D", nets["D"](batch["img"]).mean() + (batch["number"] - batch["same"]).abs().sum())
        return {"difference": (batch["number"] - batch["same"]).abs().sum().float()}

    numbers = np.arange(32)
    trainer = make(look, {"img": images(), "number": numbers, "same": numbers.copy(), "cond": np.zeros((32, 2), "f")})
    assert trainer.fit(steps=3)["difference"] == 0
    assert seen[0] == {"img": (torch.float32, (8, 3, 8, 8)), "number": (torch.int64, (8,)),
                       "same": (torch.int64, (8,)), "cond": (torch.float32, (8, 2))}  # fmt: skip


def test_a_frozen_network_serves_a_step_and_stays_as_it_is():
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 1), nn.BatchNorm1d(1)).double().requires_grad_(False)
    before = [tensor.float().clone() for tensor in (*teacher.parameters(), *teacher.buffers())]

    def follow(nets, batch, draw, update):
        loss = F.mse_loss(nets["D"](batch["img"]), nets["teacher"](batch["img"]))
        update("D", loss)
        return {"loss": loss}

    optimizers = {"D": {"lr": 1e-3, "beta1": 0.5, "beta2": 0.9}}
    trainer = Trainer.from_step(follow, nets=nets() | {"teacher": teacher}, data=images(), optimizers=optimizers,
                                batch_size=8, compile=False, amp=False, progress=False)  # fmt: skip
    trainer.fit(steps=2)
    assert teacher[1].weight.dtype == torch.float32
    after = [*trainer.state.nets["teacher"].parameters(), *trainer.state.nets["teacher"].buffers()]
    assert all(torch.equal(one, other.float()) for one, other in zip(before, after, strict=True))


@pytest.mark.thorough
def test_layers_of_volumes_and_of_series_train():
    torch.manual_seed(0)
    volumes = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1))
    series = nn.LSTM(3, 4, batch_first=True)

    def both(nets, batch, draw, update):
        loss = nets["volumes"](batch["volume"]).square().mean() + nets["series"](batch["series"])[0].square().mean()
        update("both", loss)
        return {"loss": loss}

    data = {"volume": torch.randn(8, 1, 4, 4, 4), "series": torch.randn(8, 5, 3)}
    trainer = Trainer.from_step(both, nets={"volumes": volumes, "series": series}, data=data, optimizers={"both": 1e-3},
                                groups={"both": ["volumes", "series"]}, batch_size=4, amp=False, compile=True,
                                progress=False)  # fmt: skip
    statistics = trainer.fit(steps=3)
    assert statistics["rung"] == "compiled"


# --- mistakes ---------------------------------------------------------------------------------------------------------


def reads_the_host(nets, batch, draw, update):
    loss = nets["D"](batch["img"]).mean()
    update("D", loss)
    return {"d_loss": loss.item()}


def returns_nothing(nets, batch, draw, update):
    update("D", nets["D"](batch["img"]).mean())


def returns_a_vector(nets, batch, draw, update):
    loss = nets["D"](batch["img"])
    update("D", loss.mean())
    return {"d_loss": loss}


def updates_a_stranger(nets, batch, draw, update):
    update("E", nets["D"](batch["img"]).mean())
    return {"d_loss": torch.zeros(())}


def updates_nothing(nets, batch, draw, update):
    return {"d_loss": nets["D"](batch["img"]).mean()}


def draws_twice(nets, batch, draw, update):
    draw.normal("z", 2)
    draw.normal("z", 2)
    return {}


def raises(nets, batch, draw, update):
    return {"d_loss": nets["D"](batch["image"])}


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (reads_the_host, "the step 'update' calls Tensor.item, which makes the host wait"),
        (returns_nothing, "the step 'update' returns no statistics"),
        (returns_a_vector, r"the step 'update' returns a tensor \[8, 1\] as 'd_loss'"),
        (updates_a_stranger, "the step updates 'E', and groups are G, D"),
        (updates_nothing, "the step 'update' updates nothing"),
        (draws_twice, "the step draws 'z' twice"),
        (raises, "the step 'update' failed in its first call: KeyError: 'image'"),
    ],
)
def test_a_mistake_in_a_step_is_told_by_name(own, words):
    with pytest.raises(UserError, match=words):
        make(own)


def test_a_step_that_draws_otherwise_in_a_later_call_is_told():
    sizes = iter([3, 4, 4, 4])

    def changing(nets, batch, draw, update):
        update("D", nets["D"](batch["img"]).mean() + draw.normal("z", next(sizes)).sum())
        return {"d_loss": torch.zeros(())}

    with pytest.raises(UserError, match=r"draws 'z' as normal \[4\], and in its first call it drew normal \[3\]"):
        make(changing).fit(steps=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizers": {"G": 1e-3}, "groups": {"G": ["G", "H"]}}, "the group 'G' has the network 'H'"),
        ({"groups": {"G": ["G"]}}, "optimizers names 'D', which is none of"),
        ({"ema": ["H"]}, "ema names 'H'"),
        ({"optimizers": {"G": {"lrate": 1}, "D": 1e-3}}, "the optimiser of 'G' has no option 'lrate'"),
        ({"n_critic": 2}, "n_critic is an option of the built-in recipes"),
        ({"data": {"img": images(), "c": np.zeros(3)}}, "have different numbers of items"),
        ({"step": None}, "give one step, or steps="),
        ({"step": None, "steps": {"a": (step, 2)}}, "the first step, 'a', reads the data"),
        ({"start": {"b": 2}}, "start names 'b'"),
        ({"step": None, "steps": {}}, "steps is empty"),
        ({"step": None, "steps": {"a": step, "b": (step, 0)}}, "the step 'b' is due in every 0 steps"),
        ({"step": None, "steps": {"a": step, "b": (step, 2.5)}}, "the step 'b' is due in every 2.5 steps"),
        ({"optimizers": {"G": torch.optim.Adam, "D": 1e-3}}, "the optimiser of 'G' is a type"),
        ({"optimizers": {"G": {"lr": lambda kimg: 1.0}, "D": 1e-3}}, "the optimiser of 'G' takes no function as lr"),
        ({"ema_kimg": 0}, "ema_kimg is 0; it must be above 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        make(**options)


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_a_pool_fills_and_then_swaps_half():
    pool = ImagePool(6, (1,))
    batches = [torch.full((3, 1), float(number)) for number in (1, 2)]
    for batch in batches:
        assert torch.equal(pool(batch, torch.zeros(pool.num_uniforms(3))), batch)
    assert pool.img.flatten().tolist() == [1, 1, 1, 2, 2, 2]
    uniform = torch.tensor([0.1, 0.9, 0.1, *torch.arange(6) / 6])
    given = pool(torch.full((3, 1), 3.0), uniform)
    assert given.flatten().tolist() == [1, 3, 1]
    assert pool.img.flatten().tolist() == [3, 1, 3, 2, 2, 2]


class Items(torch.utils.data.Dataset):
    """Items with a transform that is drawn anew every time."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return {"img": torch.rand(3, 8, 8) * 2 - 1, "c": index % 3}


def test_a_loader_is_iterated_and_its_batches_reach_the_step():
    seen = []

    def look(nets, batch, draw, update):
        seen.append(batch["img"].clone())
        update("D", nets["D"](batch["img"]).mean())
        return {"d_loss": batch["c"].float().mean()}

    loader = torch.utils.data.DataLoader(Items(), batch_size=6, shuffle=True)
    trainer = make(look, loader)
    trainer.fit(steps=6)
    assert seen[-1].shape == (8, 3, 8, 8)
    assert not torch.equal(seen[-1], seen[-2])
    assert trainer.epoch_nimg == 24


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"a.b": nn.Linear(1, 1)}, "a network named 'a.b'"),
        ({"train": nn.Linear(1, 1)}, "a network named 'train'"),
        ({"lazy": nn.LazyLinear(1)}, "lazy has lazy layers"),
        ({"text": "vgg"}, "text is a str"),
    ],
)
def test_networks_that_cannot_be_trained_are_told(more, words):
    with pytest.raises(UserError, match=words):
        Trainer.from_step(step, nets=nets() | more, data=images(), optimizers={"G": 1e-3, "D": 1e-3}, progress=False)


def test_an_average_needs_parameters():
    with pytest.raises(UserError, match="'pool', which has no parameter to average"):
        Trainer.from_step(step, nets=nets() | {"pool": ImagePool(8, (3, 8, 8))}, data=images(), ema=["pool"],
                          optimizers={"G": 1e-3, "D": 1e-3}, progress=False)  # fmt: skip


def test_noise_inside_of_a_network_falls_in_a_step_of_ones_own():
    networks = nets()
    networks["D"] = nn.Sequential(GaussianNoise(1.0, kimg=0.064), networks["D"])
    trainer = Trainer.from_step(step, nets=networks, data=images(), optimizers={"G": 1e-3, "D": 1e-3}, batch_size=8,
                                compile=False, progress=False)  # fmt: skip
    trainer.fit(steps=5)
    assert networks["D"][0].scale.item() == pytest.approx(0.5)  # as of the 32 images before the last step


def test_pictures_are_written_whatever_the_data_are(tmp_path):
    data = {"img": np.random.default_rng(0).normal(size=(32, 3, 8, 8)).astype("f")}
    make(data=data, sample=lambda nets, draw: nets["G"](draw.normal("z", 4, 6)), out=tmp_path / "run").fit(steps=2)
    assert (tmp_path / "run" / "fakes_init.png").exists()
    assert not (tmp_path / "run" / "reals.png").exists()


def test_a_run_that_was_stopped_goes_on():
    trainer = make()
    for _ in trainer.ticks(steps=4):
        trainer.request_stop()
    assert trainer.nimg == 8
    assert trainer.fit(steps=4)["nimg"] == 32


def test_loaders_that_cannot_be_batched_are_told():
    single = torch.utils.data.DataLoader(Items(), batch_size=None)
    with pytest.raises(UserError, match="gives single items: give it a batch_size"):
        make(data=single)
    uneven = torch.utils.data.DataLoader(
        Items(), batch_size=8, collate_fn=lambda items: {"img": torch.zeros(len(items), 3, 8, 8), "k": torch.zeros(3)}
    )
    with pytest.raises(UserError, match="fields of different lengths"):
        make(data=uneven)
    own = torch.utils.data.DataLoader(Items(), batch_size=6)
    trainer = Trainer.from_step(step, nets=nets(), data=own, optimizers={"G": 1e-3, "D": 1e-3}, progress=False)
    assert trainer.config.run.batch_size == 6
