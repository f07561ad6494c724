"""Every example trains, samples what it says, and saves a picture; with -m thorough it compiles."""
import importlib
import math
from pathlib import Path

import pytest

from fastgan import Trainer

EXAMPLES = Path(__file__).parents[2] / "examples"
# Tiny sizes for `make`, and the shape of the samples.
CASES = {
    "own_dcgan": ({"width": 4, "batch_size": 4}, (5, 1, 32, 32)),
    "cyclegan": ({"size": 32, "width": 4, "num_blocks": 1, "num": 8, "batch_size": 2}, (16, 3, 32, 32)),
    "vqgan_tokenizer": ({"size": 16, "width": 4, "num": 8, "batch_size": 4, "start_kimg": 0.004}, (16, 3, 16, 16)),
    "hifigan_vocoder": ({"length": 2048, "width": 16, "num": 8, "batch_size": 2}, (8, 1, 2048)),
    "pix2pix": ({"size": 32, "width": 4, "depth": 4, "num": 8, "batch_size": 2}, (24, 3, 32, 32)),
    "distill_flow": ({"width": 8, "num": 16, "batch_size": 8, "flow_steps": 2}, (3, 2000, 2)),
    "infogan": ({"width": 4, "batch_size": 4}, (100, 1, 28, 28)),
    "srgan": ({"size": 16, "width": 4, "num_blocks": 1, "num": 8, "batch_size": 2}, (24, 3, 16, 16)),
    "inpainting": ({"size": 16, "width": 4, "num": 8, "batch_size": 2}, (24, 3, 16, 16)),
    "wgan_gp_callables": ({"width": 4, "batch_size": 4}, (32, 1, 28, 28)),
    "began": ({"size": 16, "width": 4, "num": 8, "batch_size": 2}, (32, 3, 16, 16)),
    "ebgan": ({"width": 4, "batch_size": 4}, (32, 1, 28, 28)),
    "acgan_images_alone": ({"width": 4, "batch_size": 4}, (5, 1, 28, 28)),
    "two_scale_D": ({"width": 4, "num": 8, "batch_size": 2}, (16, 3, 64, 64)),
    "tabular_packs": ({"width": 8, "num": 64, "batch_size": 16}, (1000, 5)),
    "lstm_series": ({"length": 6, "width": 4, "num": 8, "batch_size": 4}, (6, 6, 2)),
    "audio_1d": ({"width": 2, "num": 8, "batch_size": 2}, (8, 1, 4096)),
    "volumes_3d": ({"width": 2, "num": 8, "batch_size": 4}, (8, 1, 16, 16, 16)),
    "medical_12bit": ({"width": 4, "num": 8, "batch_size": 4}, (8, 1, 64, 48)),
}


@pytest.fixture
def example(request, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module(request.param)


def samples_of(trainer):
    return trainer.sample(5, seed=0) if isinstance(trainer, Trainer) else trainer.sample(seed=0)


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("[!_]*.py")} == set(CASES)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_one_page(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize("example", CASES, indirect=True)
def test_an_example_trains_and_saves_a_picture(example, tmp_path):
    arguments, shape = CASES[example.__name__]
    trainer = example.make(**arguments, compile=False, progress=False)
    statistics = {}
    for tick in trainer.ticks(steps=6):  # a phase that is due every few steps is in some ticks alone
        statistics |= tick
    assert all(math.isfinite(statistics[name]) for name in trainer.state.totals.names)
    assert samples_of(trainer).shape == shape
    example.show(trainer, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 100


@pytest.mark.thorough
@pytest.mark.parametrize("example", CASES, indirect=True)
def test_an_example_is_one_graph_a_phase(example):
    arguments, _ = CASES[example.__name__]
    trainer = example.make(**arguments, compile=True, progress=False)
    assert trainer.fit(steps=3)["rung"] == "compiled"
    assert len(trainer.engine.phases.graphs) == len(trainer.engine.system.phases)
