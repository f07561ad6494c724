"""Trainings for quality, eager and short.

Tested are curves, pictures, the commands, and the plain loop beside.
"""
import json
import types

import pytest
import torch
from PIL import Image

from fastgan.bench import cli as command_line
from fastgan.bench.quality import meters, pictures, run_trainings, training_cases
from fastgan.bench.quality.compare import compare
from fastgan.bench.quality.meters import Meter, with_worst_class
from fastgan.bench.quality.train import train
from fastgan.bench.quality.training_cases import TrainingCase
from fastgan.errors import DivergedError
from fastgan.trainer import Trainer

EAGER = ("run.compile=false", "run.amp=false")


@pytest.fixture
def quick_meter(monkeypatch):
    """Measure images by their mean, which needs no classifier."""
    def measure(G):
        with torch.no_grad():
            return {"fd_mean_2k": G(torch.zeros(2, 100)).mean().item()}
    monkeypatch.setattr(meters, "_image_meter", lambda config, real, device, num_images: Meter(measure, "a note"))


def trainer_of(preset: str, *changes: str) -> Trainer:
    return Trainer.from_config(
        TrainingCase(preset, 1, changes=(*EAGER, "model.img_resolution=16", *changes)).config(0), progress=False
    )


def test_a_density_is_followed_from_the_untrained_generator_on(tmp_path):
    row = train(TrainingCase("gaussian1d", 1, points=4, changes=EAGER), seed=1, note="busy", pictures=tmp_path)
    assert row.nimg == [0, 300, 500, 800, 1000]
    assert row.train_s == sorted(row.train_s)
    assert row.train_s[0] == 0 < row.train_s[1]
    assert list(row.numbers) == ["mean", "std", "skewness", "kurtosis"]
    assert {len(values) for values in row.numbers.values()} == {5}
    assert (row.metric, row.value, row.note) == ("mean", row.numbers["mean"][-1], "busy")
    assert (row.data, row.resolution, row.implementation, row.dtype, row.rung) == (
        "gaussian",
        None,
        "fastgan",
        "fp32",
        "eager",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"gaussian1d.png", "gaussian1d-moments.png"}
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < pictures.MOST_BYTES


def test_the_same_seed_trains_the_same_generator():
    first, again, other = (train(TrainingCase("ring8", 1, points=1, changes=EAGER), seed) for seed in (0, 0, 1))
    assert first.numbers == again.numbers != other.numbers
    assert list(first.numbers) == ["modes", "high_quality", "kl"]


def test_measuring_leaves_the_random_numbers_of_the_training_alone():
    torch.manual_seed(0)
    G = torch.nn.Linear(2, 2)
    before = torch.random.get_rng_state()
    meters.make_meter(TrainingCase("ring8", 1).config(0), None, torch.device("cpu")).measure(G)
    assert torch.equal(before, torch.random.get_rng_state())
    assert G.training


def test_a_training_that_diverges_is_a_row_that_ends_there(monkeypatch):
    def ticks(trainer):
        yield {"nimg": 256, "imgs_per_sec": 512.0}
        raise DivergedError("d_loss became NaN")
    monkeypatch.setattr(Trainer, "ticks", ticks)
    row = train(TrainingCase("ring8", 1, changes=EAGER), seed=0)
    assert row.note == "diverged: d_loss became NaN"
    assert (row.nimg, row.train_s) == ([0, 256], [0.0, 0.5])


def test_of_the_classes_the_worst_is_kept():
    numbers = {"accuracy2k": 0.5, "accuracy2k_class0": 0.3, "accuracy2k_class11": 0.7, "fd_classifier_2k": 9.0}
    assert with_worst_class(numbers) == {"accuracy2k": 0.5, "fd_classifier_2k": 9.0, "accuracy2k_worst": 0.3}
    assert with_worst_class({"modes26k": 3.0}) == {"modes26k": 3.0}


def test_pictures_of_classes_have_one_in_a_row(tmp_path):
    trainer = trainer_of("cgan-tiny", "run.batch_size=32")
    pictures.write_pictures(
        trainer, types.SimpleNamespace(preset="cgan-tiny", data="fashion-mnist-10k", resolution=16), tmp_path
    )
    with Image.open(tmp_path / "cgan-tiny-fashion-mnist-10k.png") as image:
        width, height = image.size
    assert height / width == 10 / trainer.sampler.columns


def test_styles_are_mixed_layer_by_layer():
    trainer = trainer_of("stylegan2-tiny")
    mixed = pictures.mixed_styles(trainer)
    rows, columns = pictures.COARSE + 1, pictures.FINE + 1
    table = mixed.view(rows, columns, *mixed.shape[1:])
    assert (table[0, 0] == -1).all()
    G, z = trainer.state.G_ema.eval(), pictures._draw_z(trainer, pictures.COARSE + pictures.FINE)
    ws = G.mapping(z)
    half = ws.shape[1] // 2
    crossed = torch.cat([ws[1, :half], ws[pictures.COARSE + 2, half:]])
    with torch.no_grad():
        torch.testing.assert_close(table[2, 3], G.synthesis(crossed[None])[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(table[2, 0], G.synthesis(ws[1:2])[0], rtol=1e-4, atol=1e-4)


def test_full_truncation_shows_one_style_and_none_the_images_themselves():
    trainer = trainer_of("stylegan2-tiny")
    swept = pictures.truncated_styles(trainer).view(len(pictures.PSIS), pictures.COLUMNS, -1)
    torch.testing.assert_close(swept[0], swept[0, :1].expand_as(swept[0]), rtol=1e-4, atol=1e-4)
    spread = (swept - swept.mean(1, keepdim=True)).square().mean((1, 2))
    assert spread.diff().gt(0).all()


def test_noise_that_is_cut_off_is_the_same_noise_nearer_together():
    wide, narrow = pictures.cut_normal(50, 8, 2.0), pictures.cut_normal(50, 8, 0.5)
    assert wide.abs().max() <= 2
    assert narrow.abs().max() <= 0.5
    assert (wide.sign() == narrow.sign()).all()
    assert torch.equal(wide.flatten().argsort(), narrow.flatten().argsort())
    assert pictures.cut_normal(5, 8, 0.0).abs().max() < 1e-6
    assert pictures.cut_normal(200, 50, 9.0).std() == pytest.approx(1, abs=0.03)


def test_a_sweep_of_biggan_has_a_class_a_column():
    trainer = trainer_of("biggan-tiny", "model.ngf=8", "model.ndf=8")
    assert pictures.truncated_normal(trainer).shape == (len(pictures.PSIS) * pictures.COLUMNS, 1, 16, 16)


def test_large_pictures_are_made_of_few_colours(tmp_path):
    path = tmp_path / "noise.png"
    noise = torch.randint(0, 256, (200, 200, 3), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(path)
    before = path.stat().st_size
    pictures.shrink(path)
    assert before > pictures.MOST_BYTES > path.stat().st_size


def test_the_plain_loop_takes_turns_with_fastgan(quick_meter):
    changes = (*EAGER, "model.img_resolution=16", "model.ngf=4", "model.ndf=4")
    rows = list(compare(TrainingCase("dcgan-tiny", 0.5, seeds=2, points=2, changes=changes)))
    assert [(row.implementation, row.seed) for row in rows] == [
        ("fastgan", 0),
        ("plain", 0),
        ("fastgan", 1),
        ("plain", 1),
    ]
    assert {tuple(row.nimg) for row in rows} == {(0, 256, 512)}
    assert {row.data for row in rows} == {training_cases.EMBEDDED}
    assert all("--compare-plain" in row.command for row in rows)
    assert rows[1].value != rows[1].numbers[rows[1].metric][0]


def test_the_command_keeps_rows_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(training_cases, "PLAN", (TrainingCase("ring8", 1, points=1, changes=EAGER),))
    monkeypatch.setattr(run_trainings, "PICTURES", tmp_path / "family")
    results = tmp_path / "rows.jsonl"
    assert command_line.main(["quality", "--seeds", "2", "--save", str(results)]) == 0
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 1]
    assert (
        rows[0]["command"]
        == "fastgan bench quality --preset ring8 --kimg 1 --seeds 2 --set run.compile=false --set run.amp=false"
    )
    assert [path.name for path in (tmp_path / "family").iterdir()] == ["ring8.png"]

