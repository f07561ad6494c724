"""Metrics while training: the files, the best snapshot, and unchanged training."""
import json
import re
from pathlib import Path

import gans
import numpy as np
import pytest
import torch
from torch import nn

from fastgan import Trainer, UserError
from fastgan.config import replace
from fastgan.metrics.networks import classifier
from fastgan.run import checkpoint
from fastgan.run.live_metrics import Measurement
from fastgan.run.snapshots import load_generator


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(classifier, "_STEPS", 3)


def data(num=40, classes=2):
    return np.random.default_rng(0).integers(0, 256, (num, 16, 16), np.uint8), np.arange(num) % classes


class Noisy(nn.Module):
    """A generator with BatchNorm, and noise of its own in every mode."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 256), nn.Tanh())

    def forward(self, z):
        return self.layers(z + 0.1 * torch.randn_like(z))


def trainer(out=None, metrics="kid20,pr20", images=None, **options):
    torch.manual_seed(0)
    G, D = Noisy(), nn.Sequential(nn.Linear(256, 16), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(16, 1))
    options = {
        "batch_size": 8,
        "compile": False,
        "amp": False,
        "progress": False,
        "features": "classifier",
        "z_dim": 6,
    } | options
    return Trainer(G, D, data() if images is None else images, out=out, metrics=metrics, **options)


def fit(trainer: Trainer, steps: int, tick_steps: int = 4, metric_ticks: int = 1) -> list[dict]:
    run = {"run.tick_kimg": tick_steps * 8 / 1000, "run.metric_ticks": metric_ticks, "run.snapshot_ticks": 1}
    for key, value in run.items():
        trainer.config = replace(trainer.config, key, value)
    if trainer.live_metrics:
        trainer.live_metrics._config = trainer.config
    if trainer.recorder:
        trainer.recorder.config = trainer.config
    return list(trainer.ticks(steps=steps))


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def all_state(trainer):
    named = {
        f"{group}/{name}": tensor for group, named in trainer.state.tensors().items() for name, tensor in named.items()
    }
    return named | {"run": trainer.generator.get_state(), "torch": torch.get_rng_state()}


def assert_same_bits(ours, theirs):
    ours, theirs = all_state(ours), all_state(theirs)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("ema_kimg", [None, 0.1])
def test_training_does_not_notice(ema_kimg):
    """Measuring changes no bit of weights, buffers, optimisers and random numbers.

    The generator draws some random numbers of its own.
    """
    measured, plain = trainer(ema_kimg=ema_kimg), trainer(metrics="", ema_kimg=ema_kimg)
    for each in (measured, plain):
        torch.manual_seed(5)
        fit(each, 12)
    assert_same_bits(measured, plain)
    assert all(module.training for module in measured.state.G.modules())


def test_a_resumed_run_measures_the_same_and_knows_what_was_best(tmp_path):
    torch.manual_seed(5)
    whole = trainer(tmp_path / "whole")
    fit(whole, 16)
    torch.manual_seed(5)
    halves = trainer(tmp_path / "halves")
    fit(halves, 8)
    # Rows of a continuation that was lost
    halves.recorder.folder.log.measured({"nimg": 96, "kimg": 0.096, "kd_classifier_20": 0.0})
    torch.manual_seed(99)
    resumed = trainer(tmp_path / "halves", resume=True)
    fit(resumed, 16)
    assert_same_bits(resumed, whole)
    theirs = [{name: value for name, value in row.items() if name != "seconds"} for row in rows(tmp_path / "whole")]
    assert [
        {name: value for name, value in row.items() if name != "seconds"} for row in rows(tmp_path / "halves")
    ] == theirs
    assert [row["nimg"] for row in theirs] == [32, 64, 96, 128]
    headers = [
        checkpoint.read_header(tmp_path / name / checkpoint.BEST_SNAPSHOT, "snapshot") for name in ("whole", "halves")
    ]
    assert headers[0]["nimg"] == headers[1]["nimg"] == min(theirs, key=lambda row: row["kd_classifier_20"])["nimg"]


def test_every_measurement_takes_the_same_noise():
    each = trainer()
    fit(each, 4)
    torch.manual_seed(1)
    ours = each.live_metrics.measure().numbers
    torch.manual_seed(2)
    assert each.live_metrics.measure().numbers == ours


def test_numbers_go_where_they_are_read(tmp_path):
    # Ticks at 4, 8 and 10 steps: measured at 8 and at the end
    ticks = fit(trainer(tmp_path / "run"), 10, metric_ticks=2)
    names = ["kd_classifier_20", "precision_classifier_20", "recall_classifier_20"]
    assert [set(names) <= tick.keys() for tick in ticks] == [False, True, True]
    written = rows(tmp_path / "run")
    assert [list(row) for row in written] == 2 * [["nimg", "kimg", "seconds", *names]]
    assert [row["nimg"] for row in written] == [64, 80]
    assert [row[names[0]] for row in written] == [tick[names[0]] for tick in ticks[1:]]
    assert all(row["seconds"] > 0 for row in written)
    assert names[0] not in rows(tmp_path / "run", "stats.jsonl")[-1]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert re.search(
        r"at 0\.064 kimg kd_classifier_20 \S+, precision_classifier_20 \S+, "
        r"recall_classifier_20 \S+, measured in .* s: the best",
        log,
    )
    assert re.search(r"measuring took [\d.]+ s, \d+% of the time", log)
    assert "classifier is not the Inception network" in log
    assert (tmp_path / "run" / "metrics.png").stat().st_size > 5000


def test_without_metrics_nothing_is_written_of_them(tmp_path):
    fit(trainer(tmp_path / "run", metrics=""), 4)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert not names & {"metrics.jsonl", "metrics.png", checkpoint.BEST_SNAPSHOT}
    assert "measuring" not in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_that_is_told_to_stop_does_not_measure_first():
    each = trainer()
    for tick in each.ticks(kimg=0.8):  # noqa: B007  the last one is looked at
        each.request_stop()
    assert "kd_classifier_20" not in tick


def test_measuring_is_no_training_time(monkeypatch):
    each = trainer()
    fit(each, 4)
    clock = [0.0]
    monkeypatch.setattr("fastgan.run.stopwatch.time.perf_counter", lambda: clock[0])

    def measure():
        clock[0] += 1000.0
        return Measurement({"kid": 1.0}, 1000.0)

    def launch(most, launch=each._launch):
        clock[0] += 1.0
        launch(most)

    monkeypatch.setattr(each.live_metrics, "measure", measure)
    monkeypatch.setattr(each, "_launch", launch)
    ticks = fit(each, 12)
    assert [tick["imgs_per_sec"] for tick in ticks] == 2 * [pytest.approx(8.0)]  # 4 launches of 8 images in 4 s
    assert [tick["outside_step"] for tick in ticks] == 2 * [pytest.approx(0.0)]


# --- the best snapshot ------------------------------------------------------------------------------------------------


def recorded(tmp_path, name: str, values: list[float]) -> list[bool]:
    each = trainer(tmp_path / "run", metrics="")
    return [
        each.recorder.measured(1000 * number, Measurement({name: value}, 1.0)) for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("name", "values", "is_best"),
    [
        ("fid5k", [9.0, 8.0, 8.5, 8.0, 7.0], [True, True, False, False, True]),
        ("kd_classifier_5k", [0.1, -0.1, 0.0], [True, True, False]),
        ("precision5k", [0.1, 0.3, 0.2], [True, True, False]),
        ("accuracy5k", [float("nan"), 0.3, float("inf"), 0.4], [False, True, False, True]),
        ("modes26k", [990.0, 1000.0], [True, True]),
        ("modes26k_kl", [0.5, 1.0], [True, False]),
    ],
)
def test_better_is_lower_or_higher_by_the_name(tmp_path, name, values, is_best):
    assert recorded(tmp_path, name, values) == is_best


def test_a_folder_still_means_its_newest_snapshot(tmp_path):
    np.savez(tmp_path / "data.npz", images=data()[0], labels=data()[1])
    length = {
        "run__kimg": 2.4,
        "run__epochs": None,
        "run__tick_kimg": 0.8,
        "run__snapshot_ticks": 1,
        "run__batch_size": 40,
    }
    measured = {
        "run__metrics": "kid20",
        "run__features": "classifier",
        "run__metric_ticks": 1,
        "data__source": str(tmp_path / "data.npz"),
    }
    config = gans.tiny_config("mlp", run__compile=False, run__amp=False, **length, **measured)
    each = Trainer.from_config(config, out=tmp_path / "run", progress=False)
    each.fit()
    best, header = checkpoint.load_tensors(tmp_path / "run" / checkpoint.BEST_SNAPSHOT, "snapshot")
    lowest = min(rows(tmp_path / "run"), key=lambda row: row["kd_classifier_20"])
    assert (header["nimg"], header["value"]) == (lowest["nimg"], lowest["kd_classifier_20"])
    (tmp_path / "run" / checkpoint.BEST_SNAPSHOT).write_bytes(b"nothing that could be loaded")
    G, _ = load_generator(tmp_path / "run")
    assert torch.equal(G.layers[0].weight, each.state.G_ema.layers[0].weight)
    assert each.recorder.folder.last_snapshot().name == "network-snapshot-000002.safetensors"


def test_a_best_one_of_later_than_the_resumed_state_does_not_count(tmp_path):
    each = trainer(tmp_path / "run", metrics="")
    fit(each, 4)
    each.recorder.measured(1000, Measurement({"fid5k": 5.0}, 1.0))
    folder = each.recorder.folder
    assert folder.read_best(999) is None
    assert folder.read_best(1000)["value"] == 5.0
    resumed = trainer(tmp_path / "run", metrics="", resume=True)
    assert resumed.recorder.measured(40, Measurement({"fid5k": 6.0}, 1.0))


# --- what cannot be measured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": "is5k"}, "'is5k' is not a known metric"),
        (
            {"metrics": "accuracy20"},
            "--metrics accuracy needs a conditional generator: leave it out, or train with --cond",
        ),
        ({"features": "inception"}, "the feature network inception needs"),
        ({"images": data()[0]}, "has no class labels"),
    ],
)
def test_a_mistake_is_one_sentence_before_there_is_a_folder(tmp_path, monkeypatch, options, words):
    monkeypatch.setenv("FASTGAN_FEATURES", str(tmp_path / "none"))
    with pytest.raises(UserError, match=re.escape(words)):
        trainer(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_samples_of_a_density_are_not_measured():
    G, D = (nn.Sequential(nn.Linear(2, 8), nn.ELU(), nn.Linear(8, 1)) for _ in range(2))
    D = nn.Sequential(nn.Linear(1, 8), nn.ELU(), nn.Linear(8, 1))
    with pytest.raises(UserError, match="this run learns samples of a density"):
        Trainer(G, D, torch.randn(64, 1), batch_size=8, compile=False, progress=False, metrics="fid20")


def test_images_that_are_decoded_as_needed_are_not_measured(monkeypatch):
    from fastgan.run import live_metrics
    with pytest.raises(UserError, match="--metrics needs all real images in memory, and --data-backend dali"):
        live_metrics._whole_set(object())
