"""The loop: what it gives, writes, resumes and refuses."""
import json
import signal
import subprocess
import sys
import time

import gans
import numpy as np
import pytest
import torch
from torch import nn

from fastgan import DivergedError, Trainer, UserError
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.config import replace
from fastgan.data import ResidentFeed
from fastgan.ops.dispatch import autotune, registry
from fastgan.run.checkpoint import load_tensors


def images(num=48, side=16, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, side, side, channels), dtype=np.uint8)


def flat_pair():
    """The networks of the tutorials: flat images, a Sigmoid at the end, dropout."""
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 256), nn.Tanh())
    return G, nn.Sequential(nn.Linear(256, 16), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(16, 1), nn.Sigmoid())


def conv_pair():
    """The DCGAN example's habits: z as [N, z, 1, 1], logits as [N, 1, 1, 1]."""
    torch.manual_seed(0)
    G = nn.Sequential(
        nn.ConvTranspose2d(6, 8, 4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 4, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 4, 2, 1),
        nn.Tanh(),
    )
    D = nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 8, 4, 2, 1),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 1, 4),
    )
    return G, D


def quiet(pair, data=None, **options):
    options = {"batch_size": 8, "compile": False, "amp": False, "progress": False} | options
    return Trainer(*pair, images() if data is None else data, **options)


def all_state(trainer):
    return {
        f"{group}/{name}": t.clone() for group, named in trainer.state.tensors().items() for name, t in named.items()
    }


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize(("pair", "channels", "z_shape"), [(flat_pair, 1, (6,)), (conv_pair, 3, (6, 1, 1))])
def test_networks_of_a_users_own(pair, channels, z_shape):
    trainer = quiet(pair(), images(channels=channels), z_dim=6)
    before = [parameter.clone() for parameter in trainer.state.G.parameters()]
    last = trainer.fit(kimg=0.08)
    assert trainer.signature.z_shape == z_shape
    assert (last["nimg"], last["kimg"], last["rung"]) == (80, 0.08, "eager")
    assert all(not torch.equal(old, new) for old, new in zip(before, trainer.state.G.parameters(), strict=True))
    samples = trainer.sample(5, seed=1)
    assert samples.shape == (5, channels, 16, 16)
    assert samples.abs().max() <= 1
    assert torch.equal(samples, trainer.sample(5, seed=1))
    assert not torch.equal(trainer.sample(5), trainer.sample(5))
    assert trainer.state.G.training


def test_ticks_can_be_left_and_taken_up_again():
    trainer = quiet(flat_pair())
    for tick in trainer.ticks(kimg=0.8):
        if tick["nimg"] >= 160:
            break
    assert trainer.nimg == 160
    assert [tick["nimg"] for tick in trainer.ticks(steps=23)] == [168, 176, 184]


def test_lengths_in_kimg_epochs_and_steps_are_one_clock():
    assert quiet(flat_pair()).fit(steps=6)["nimg"] == 48
    assert quiet(flat_pair()).fit(epochs=1)["nimg"] == 48
    assert quiet(flat_pair()).fit(kimg=0.041)["nimg"] == 48  # a whole number of batches
    with pytest.raises(UserError, match="exactly one"):
        quiet(flat_pair()).fit(kimg=1, steps=1)


def test_statistics_are_means_over_the_tick():
    config = gans.tiny_config("mlp", data__source="fashion-mnist-10k", run__amp=False, run__compile=False)
    config = replace(replace(replace(config, "run.kimg", 0.04), "run.epochs", None), "run.tick_kimg", 0.02)
    one, other = (Trainer.from_config(config, progress=False) for _ in range(2))
    ticks = list(one.ticks())
    singles = []
    other.engine.prepare()
    for _ in range(5):
        other._launch(1)
        singles.append(other.readout.take())
    assert [tick["nimg"] for tick in ticks] == [24, 40]
    assert ticks[0]["d_loss"] == pytest.approx(np.mean(singles[:3], axis=0)[0], rel=1e-5)
    assert ticks[1]["g_loss"] == pytest.approx(np.mean(singles[3:], axis=0)[1], rel=1e-5)


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_resume_is_bit_identical(tmp_path, compile):
    """Ten steps, against four, a new trainer and six more: dropout, flips, noise, moving average
    and the order of the data included.
    """
    options = {
        "compile": compile,
        "flip_labels": 0.2,
        "instance_noise": 0.1,
        "ema_kimg": 0.1,
        "fresh_fakes": True,
        "seed": 3,
    }
    whole = quiet(flat_pair(), out=tmp_path / "whole", **options)
    torch.manual_seed(5)
    whole.fit(steps=10)
    halves = quiet(flat_pair(), out=tmp_path / "halves", **options)
    torch.manual_seed(5)
    halves.fit(steps=4)
    torch.manual_seed(99)
    resumed = quiet(flat_pair(), out=tmp_path / "halves", resume=True, **options)
    assert resumed.nimg == 32
    resumed.fit(steps=10)
    assert resumed.engine.rung.name == whole.engine.rung.name == ("compiled" if compile else "eager")
    assert_same_bits(all_state(resumed), all_state(whole))
    assert torch.equal(resumed.sample(4, seed=0), whole.sample(4, seed=0))


def test_preparing_takes_nothing_from_the_run(monkeypatch):
    """The steps of the start-up check leave data, noise and networks where they were."""
    # This one does not measure: both shall run the same, to the bit
    monkeypatch.setattr(autotune, "_forced", {"adam_ema": "reference"})
    trainer, reference = quiet(flat_pair(), seed=4), quiet(flat_pair(), seed=4)
    reference.engine.prepared = True  # it has nothing to prepare
    monkeypatch.setattr(reference.engine.system.counters, "add", lambda *_: None)
    for each in (trainer, reference):
        torch.manual_seed(0)
        each.fit(steps=2)
    assert trainer.feed.nimg == reference.feed.nimg == 16
    assert torch.equal(trainer.generator.get_state(), reference.generator.get_state())
    assert_same_bits(all_state(trainer), all_state(reference))


def captured(monkeypatch, pair, *args, **options):
    """A trainer that records its steps, by what stands in for CUDA graphs."""
    with monkeypatch.context() as patch:
        patch.setattr("fastgan.run.build.graphs_of", lambda device, generators: RecordedGraphs())
        return quiet(pair, *args, **options)


class WaitsForTheDevice(nn.Module):
    def forward(self, x):
        return x * float(x.mean().item() < 1e9)


def test_a_refused_rung_is_one_sentence_for_the_terminal_and_a_traceback_in_the_log(monkeypatch, tmp_path, capsys):
    G, D = flat_pair()
    D.insert(1, WaitsForTheDevice())
    captured(monkeypatch, (G, D), out=tmp_path / "run", progress=True).fit(steps=1)
    log, shown = (tmp_path / "run" / "log.txt").read_text(), capsys.readouterr()
    assert "Traceback (most recent call last):" in log
    assert "x.mean().item()" in log
    assert "the captured step is not used" in log
    assert "Traceback" not in shown.out + shown.err
    assert "the captured step is not used" in (shown.out + shown.err).replace("\n", " ")


@pytest.mark.parametrize("graph_steps", [1, 3, None])
def test_captured_and_eager_runs_are_the_same_to_the_bit(monkeypatch, graph_steps):
    """Over several epochs and ticks: order of the data, z, mirrored images, schedules, statistics,
    weights and BatchNorm's counters.
    """
    monkeypatch.setattr(autotune, "_forced", dict.fromkeys(registry.OPS, "reference"))
    options = {"z_dim": 6, "flip_labels": 0.2, "instance_noise": 0.1, "ema_kimg": 0.1, "mirror": True, "seed": 3}
    data = images(channels=3)
    ours, theirs = (
        captured(monkeypatch, conv_pair(), data, graph_steps=graph_steps, **options),
        quiet(conv_pair(), data, **options),
    )
    for trainer in (ours, theirs):
        trainer.config = replace(replace(trainer.config, "run.tick_kimg", 0.08), "loss.instance_noise_kimg", 0.1)
    ticks = [list(trainer.ticks(steps=37)) for trainer in (ours, theirs)]
    assert (ours.engine.rung.name, theirs.engine.rung.name) == ("captured", "eager")
    assert [[tick[name] for name in ("nimg", "d_loss", "g_loss")] for tick in ticks[0]] == [
        [tick[name] for name in ("nimg", "d_loss", "g_loss")] for tick in ticks[1]]  # fmt: skip
    assert [tick["nimg"] for tick in ticks[0]] == [80, 160, 240, 296]
    assert_same_bits(all_state(ours), all_state(theirs))
    # 16 steps would not fit into a tick
    assert ours.engine.rung.steps_per_launch in {1: [1], 3: [3], None: [1, 4]}[graph_steps]
    assert ours.state.D[3].num_batches_tracked == 3 * 37
    assert ours.state.G[1].num_batches_tracked == ours.state.G_ema[1].num_batches_tracked == 37


def test_graphs_that_are_asked_for_need_a_device_that_has_them(tmp_path):
    with pytest.raises(UserError, match="--cuda-graph on needs a CUDA device, and this run is on cpu"):
        quiet(flat_pair(), cuda_graph="on", device="cpu", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_launches_stay_long_after_a_tick_that_ended_between_two(monkeypatch):
    """Ticks of 9 steps, launches of 4: two of them and a single step, every time."""
    trainer = captured(monkeypatch, flat_pair(), graph_steps=4)
    trainer.config = replace(trainer.config, "run.tick_kimg", 0.072)
    trainer._prepare_step(gans.SilentProgress(), 9)
    trainer.engine.graphs.replayed.clear()
    assert [tick["nimg"] for tick in trainer.ticks(steps=27)] == [72, 144, 216]
    sizes = [len(recording) for recording in trainer.engine.graphs.recordings]
    assert [sizes[number] > min(sizes) for number in trainer.engine.graphs.replayed] == 3 * [True, True, False]


@pytest.mark.slow
def test_a_compiled_step_reads_its_images_in_the_order_of_the_eager_one():
    """Over the end of an epoch."""
    ours = quiet(flat_pair(), mirror=True, compile=True, seed=5)
    theirs = quiet(flat_pair(), mirror=True, seed=5)
    ticks = []
    for trainer in (ours, theirs):
        torch.manual_seed(0)  # of D's dropout
        ticks.append(trainer.fit(steps=9))
    assert (ticks[0]["rung"], ticks[1]["rung"]) == ("compiled", "eager")
    assert ticks[0]["real_logits"] == pytest.approx(ticks[1]["real_logits"], rel=1e-3)
    assert torch.equal(ours.feed.state()["position"], theirs.feed.state()["position"])


def test_a_captured_run_is_resumed_to_the_bit(monkeypatch, tmp_path):
    options = {"z_dim": 6, "ema_kimg": 0.1, "seed": 3, "graph_steps": 3}
    data = images(channels=3)
    whole = captured(monkeypatch, conv_pair(), data, **options)
    whole.fit(steps=11)
    captured(monkeypatch, conv_pair(), data, out=tmp_path / "run", **options).fit(steps=4)
    resumed = captured(monkeypatch, conv_pair(), data, out=tmp_path / "run", resume=True, **options)
    resumed.fit(steps=11)
    assert resumed.engine.rung.name == "captured"
    assert "3 steps a launch" in (tmp_path / "run" / "log.txt").read_text()
    assert_same_bits(all_state(resumed), all_state(whole))


def test_batchnorm_counts_as_torch_does(tmp_path):
    """Though nothing is launched for it: in the networks after every tick, and in what is saved."""
    trainer = quiet(conv_pair(), images(channels=3), z_dim=6, out=tmp_path / "run", fresh_fakes=True)
    for tick in trainer.ticks(steps=5):
        steps = tick["nimg"] // 8
        assert (trainer.state.G[1].num_batches_tracked, trainer.state.D[3].num_batches_tracked) == (
            2 * steps,
            3 * steps,
        )
    tensors, _ = load_tensors(tmp_path / "run" / "network-snapshot-000000.safetensors", "snapshot")
    assert (tensors["G.1.num_batches_tracked"], tensors["D.3.num_batches_tracked"]) == (10, 15)
    resumed = quiet(conv_pair(), images(channels=3), z_dim=6, out=tmp_path / "run", fresh_fakes=True, resume=True)
    resumed.fit(steps=7)
    assert resumed.state.D[3].num_batches_tracked == 21


def test_the_run_folder_holds_what_it_should(tmp_path):
    length = {"run__kimg": 0.4, "run__epochs": None, "run__tick_kimg": 0.08}
    config = gans.tiny_config("dcgan", run__amp=False, run__compile=False, run__tensorboard=True, **length)
    out = tmp_path / "run"
    Trainer.from_config(replace(config, "run.image_ticks", 1), out=out, progress=False).fit()
    names = {path.name for path in out.iterdir()}
    expected = {
        "training_options.json",
        "log.txt",
        "stats.jsonl",
        "reals.png",
        "fakes_init.png",
        "fakes000000.png",
        "losses.png",
    }
    assert expected <= names
    assert "network-snapshot-000000.safetensors" in names
    assert any(name.startswith("events.out") for name in names)
    assert not [name for name in names if name.startswith(".")]
    rows = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    assert [row["nimg"] for row in rows] == [80, 160, 240, 320, 400]
    assert "precision" in (out / "log.txt").read_text()
    tensors, header = load_tensors(out / "network-snapshot-000000.safetensors", "snapshot")
    assert header["config"]["model"]["ngf"] == 8
    assert any(name.startswith("D.") for name in tensors)


def test_a_stop_writes_the_state_and_a_resume_takes_it_up(tmp_path):
    trainer = quiet(flat_pair(), out=tmp_path / "run")
    for _ in trainer.ticks(kimg=80):
        trainer.request_stop()
    assert trainer.nimg == 800  # the tick after which the stop came is the last
    resumed = quiet(flat_pair(), out=tmp_path / "run", resume=True)
    assert resumed.nimg == trainer.nimg
    assert_same_bits(all_state(resumed), all_state(trainer))


def test_a_stop_before_the_first_step_can_be_resumed(tmp_path):
    """Ctrl-C while the step is being compiled."""
    trainer = quiet(flat_pair(), out=tmp_path / "run")
    trainer.request_stop()
    assert trainer.fit(steps=5) == {}
    resumed = quiet(flat_pair(), out=tmp_path / "run", resume=True)
    assert resumed.fit(steps=5)["nimg"] == 40


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"resume": True}, "out="),
        ({"lr": [1e-4]}, "lr is"),
        ({"betas": 0.5}, "betas is"),
        ({"batch_size": "8"}, "batch_size"),
        ({"loss": "perceptual"}, "loss.name"),
        ({"device": torch.device("cuda:7")}, "cuda:7"),
    ],
)
def test_wrong_arguments_are_one_sentence(options, reason):
    with pytest.raises(UserError, match=reason):
        quiet(flat_pair(), **options)


def test_labels_of_sets_are_not_flipped():
    G = nn.Sequential(nn.Linear(2, 8), nn.ELU(), nn.Linear(8, 1))
    D = nn.Sequential(nn.Unflatten(0, (-1, 4)), nn.Flatten(), nn.Linear(4, 1))
    quiet((G, D), torch.randn(64, 1)).fit(steps=1)
    with pytest.raises(UserError, match="D gives 2 judgements for 8"):
        quiet((G, D), torch.randn(64, 1), flip_labels=0.1)


@pytest.mark.parametrize("length", [0, -1, float("inf"), float("nan"), "3"])
def test_wrong_lengths_are_one_sentence(length):
    with pytest.raises(UserError, match="long"):
        quiet(flat_pair()).fit(kimg=length)


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_read(tmp_path):
    quiet(flat_pair(), out=tmp_path / "run").fit(steps=1)
    with pytest.raises(UserError, match="resume"):
        quiet(flat_pair(), "no such data", out=tmp_path / "run")


def test_nan_stops_the_run_and_keeps_the_last_good_snapshot(tmp_path):
    trainer = quiet(flat_pair(), out=tmp_path / "run")
    trainer.config = replace(trainer.config, "run.snapshot_ticks", 1)
    trainer.recorder.config = trainer.config
    trainer.fit(steps=2)
    good = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    assert good
    with torch.no_grad():
        trainer.state.D[0].weight[0, 0] = float("inf")
    with pytest.raises(DivergedError, match=r"d_loss.*NaN.*last finite: kimg 0.016.*network-snapshot-000000"):
        trainer.fit(steps=4)
    assert good == {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    assert "NaN" in (tmp_path / "run" / "log.txt").read_text()


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path):
    trainer = quiet(flat_pair(), out=tmp_path / "run")
    trainer.fit(steps=1)
    good = (tmp_path / "run" / "network-snapshot-000000.safetensors").read_bytes()
    with torch.no_grad():
        trainer.state.G[2].bias[0] = float("nan")
    with pytest.raises(DivergedError, match="weight G.2.bias"):
        trainer.recorder.save(900, trainer.generator)
    assert (tmp_path / "run" / "network-snapshot-000000.safetensors").read_bytes() == good


def test_every_image_once_an_epoch_in_an_order_that_the_seed_fixes():
    trainer = quiet(flat_pair(), seed=7)
    feed = ResidentFeed(trainer.real_set.images, 8, 7)
    trainer.feed.reserve(6)
    ours = [trainer.feed.read().img for _ in range(6)]
    assert all(torch.equal(a, feed.next_batch().img) for a in ours)
    shown = torch.cat(ours).permute(0, 2, 3, 1).flatten(1).tolist()
    assert sorted(shown) == sorted(trainer.real_set.images.flatten(1).tolist())


def test_samples_of_a_users_own_density():
    G, D = (
        nn.Sequential(nn.Linear(2, 8), nn.ELU(), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(3, 8), nn.ELU(), nn.Linear(8, 1)),
    )
    trainer = quiet((G, D), torch.randn(64, 3))
    trainer.fit(steps=3)
    assert trainer.sample(7).shape == (7, 3)


@pytest.mark.slow
def test_kill_at_any_moment_leaves_a_run_that_resumes(tmp_path):
    """SIGKILL in the middle of a run that saves as often as it can; the resumed run ends where it
    should.
    """
    out = tmp_path / "run"
    arguments = [
        "--preset",
        "mlp",
        "--no-compile",
        "--no-amp",
        "--tick",
        "0.064",
        "--set",
        "run.snapshot_ticks=1",
        "--set",
        "run.image_ticks=1",
    ]
    command = [sys.executable, "-m", "fastgan", "train", *arguments, "--kimg", "1000", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("training-state-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(out.glob("training-state-*"))
    again = subprocess.run(
        [sys.executable, "-m", "fastgan", "train", "--resume", str(out), "--kimg", "2"], capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    rows = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    assert [row["nimg"] for row in rows] == sorted({row["nimg"] for row in rows})
    assert rows[-1]["kimg"] >= 2


# --- networks as they are ---------------------------------------------------------------------------------------------


def test_an_error_of_the_first_step_is_told_with_its_shapes():
    class D(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.calls = nn.Linear(256, 1), 0

        def forward(self, img):
            if img.requires_grad or img.grad_fn is not None:
                raise ValueError("no gradients here")
            return self.layer(img.flatten(1))

    words = r"the first training step failed .* z \[8, 6\] and images \[8, 256\]"
    with pytest.raises(UserError, match=words) as caught:
        quiet((flat_pair()[0], D())).fit(steps=1)
    assert isinstance(caught.value.__cause__, ValueError)


class ViewingD(nn.Module):
    """Features and logits by `view`, and a sigmoid inside forward()."""

    def __init__(self):
        super().__init__()
        self.down, self.last = nn.Conv2d(3, 8, 4, 2, 1), nn.Linear(512, 1)

    def forward(self, img):
        features = self.down(img)
        return torch.sigmoid(self.last(features.view(len(img), -1))), features


class LogitD(ViewingD):
    """The same as fastgan's step needs it."""

    def forward(self, img):
        return self.last(self.down(img).flatten(1))


@pytest.mark.parametrize("compile", [False, True])
def test_a_d_with_views_a_sigmoid_and_features_trains_as_one_written_for_it(compile):
    reports = []
    for make in (ViewingD, LogitD):
        G = conv_pair()[0]
        torch.manual_seed(1)
        trainer = quiet((G, make()), images(channels=3), compile=compile, loss="wasserstein", gp_weight=1.0, seed=3)
        reports.append(trainer.fit(steps=3))
        assert reports[-1]["rung"] == ("compiled" if compile else "eager")
    for name in ("d_loss", "g_loss", "gradient_penalty"):
        assert reports[0][name] == pytest.approx(reports[1][name], rel=1e-4, abs=1e-5)


def test_classes_of_each_network_come_in_its_own_form():
    class MapsG(nn.Module):
        def __init__(self):
            super().__init__()
            self.z, self.c = nn.ConvTranspose2d(6, 4, 4), nn.ConvTranspose2d(3, 4, 4)
            self.up = nn.Upsample(scale_factor=4)
            self.out = nn.Conv2d(8, 1, 3, 1, 1)

        def forward(self, z, c):
            return self.out(self.up(torch.cat([self.z(z), self.c(c)], 1)))

    class PlanesD(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(4, 1, 4, 4)

        def forward(self, img, planes):
            return self.layer(torch.cat([img, planes], 1))

    labels = np.arange(48) % 3
    trainer = quiet((MapsG(), PlanesD()), (images(), labels), c_dim=3)
    assert trainer.signature.calls.G_condition.form == "maps"
    assert trainer.signature.calls.D_condition.form == "planes"
    assert trainer.fit(steps=2)["nimg"] == 16
    assert trainer.sample(5, c=1).shape == (5, 1, 16, 16)
    maps = lambda c: torch.eye(3)[c][:, :, None, None]  # noqa: E731
    given = (lambda c, z: maps(c), lambda c, img: maps(c).expand(-1, -1, 16, 16))
    again = quiet((MapsG(), PlanesD()), (images(), labels), c_dim=3, condition=given)
    assert again.signature.calls.D_condition.form == "given"
    assert again.fit(steps=2)["nimg"] == 16
