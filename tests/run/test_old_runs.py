"""Run folders of version 0.1.0, whose options had other names, go on and give samples.

tests/old_runs holds two of them after 4 steps of 8 images, and here is what that version made of
them in 2 more: the sum of all |weights| of G and D.
"""
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from fastgan import cli
from fastgan.bench.switches import present
from fastgan.ops.dispatch import autotune
from fastgan.run.checkpoint import latest_state, load_tensors

OLD_RUNS = Path(__file__).parents[1] / "old_runs"
WEIGHTS = {"dcgan": 56.49256370443618, "stylegan2": 13416.985898552914}


@pytest.fixture(autouse=True)
def settings_put_back(monkeypatch):
    """The runs were deterministic, which is for the whole process."""
    before = present()
    monkeypatch.setattr(autotune, "_is_fixed", False)
    monkeypatch.setattr(autotune, "_forced", {})
    yield
    before.apply()


@pytest.fixture(params=WEIGHTS)
def old_run(request, tmp_path):
    shutil.copytree(OLD_RUNS / request.param, tmp_path / "run")
    return request.param, tmp_path / "run"


def test_it_is_resumed(old_run):
    name, folder = old_run
    assert cli.main(["train", "--resume", str(folder), "--steps", "6"]) == 0
    tensors, header = load_tensors(latest_state(folder)[0], "state")
    weights = [tensor for key, tensor in tensors.items() if key.startswith(("G/", "D/"))]
    assert header["nimg"] == 48
    assert sum(tensor.double().abs().sum().item() for tensor in weights) == pytest.approx(WEIGHTS[name], rel=1e-6)


def test_its_options_have_todays_names_afterwards(old_run):
    _, folder = old_run
    assert cli.main(["train", "--resume", str(folder), "--steps", "5"]) == 0
    penalty = json.loads((folder / "training_options.json").read_text())["penalty"]
    assert "D_every" not in penalty
    assert penalty["D_reg_interval"] in (1, 2)


def test_its_snapshot_gives_samples(old_run, tmp_path):
    _, folder = old_run
    assert cli.main(["sample", str(folder), "-n", "4", "--out", str(tmp_path / "samples.png")]) == 0
    with Image.open(tmp_path / "samples.png") as picture:
        assert min(picture.size) >= 32
