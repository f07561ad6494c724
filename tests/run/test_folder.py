"""Names, files and options of a run folder."""
import json
from pathlib import Path

import gans
import pytest
import torch
from PIL import Image

from fastgan.config import replace, to_json
from fastgan.config.presets import PRESETS, preset
from fastgan.errors import DiskError, UserError
from fastgan.run.folder import RunFolder, next_run_folder, read_options


def row(nimg: int) -> dict:
    return {"nimg": nimg, "kimg": nimg / 1000, "d_loss": 1.4, "g_loss": 0.7, "real_logits": 0.1, "fake_logits": -0.1}


@pytest.mark.parametrize("name", PRESETS)
def test_the_options_are_kept_and_read_back(tmp_path, name):
    config = gans.tiny_config(name)
    RunFolder(tmp_path / "run", config)
    assert read_options(tmp_path / "run") == config
    assert (tmp_path / "run" / "training_options.json").read_text() == to_json(config) + "\n"


def test_a_folder_that_holds_a_run_is_not_touched(tmp_path):
    RunFolder(tmp_path, preset("mlp"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"{tmp_path} already holds a run; continue it with --resume"):
        RunFolder(tmp_path, preset("dcgan"))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_resumed_run_keeps_its_folder_and_the_options_of_today(tmp_path):
    folder = RunFolder(tmp_path, preset("mlp"))
    for nimg in (100, 200, 300):
        folder.log.row(row(nimg))
    longer = replace(replace(preset("mlp"), "run.epochs", None), "run.kimg", 7.0)
    RunFolder(tmp_path, longer, resume_nimg=200)
    assert read_options(tmp_path) == longer
    assert [json.loads(line)["nimg"] for line in (tmp_path / "stats.jsonl").read_text().splitlines()] == [100, 200]


def test_a_place_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file cannot be a folder.*--out"):
        RunFolder(tmp_path / "file", preset("mlp"))
    with pytest.raises(UserError, match="cannot be a folder"):
        RunFolder(tmp_path / "file" / "below", preset("mlp"))


def test_a_folder_that_may_not_be_made(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DiskError, match=r"cannot create the folder .*run: Permission denied"):
        RunFolder(tmp_path / "run", preset("mlp"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged"),
        (b'{"preset": "mlp", "model": {', "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[1, 2]", "is damaged"),
        (b'{"model": 3}', "is damaged"),
        (b'{"model": {"ngff": 3}}', "no option 'model.ngff'"),
        (b'{"run": {"batch_size": "many"}}', "run.batch_size takes a whole number, not 'many'"),
    ],
)
def test_options_that_are_damaged(tmp_path, content, words):
    (tmp_path / "training_options.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_options(tmp_path)
    assert str(tmp_path / "training_options.json") in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_run_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UserError, match=f"{path} is not a run folder"):
            read_options(path)


def test_options_that_may_not_be_read(tmp_path, monkeypatch):
    RunFolder(tmp_path, preset("mlp"))

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match=r"cannot read .*training_options.json: Permission denied"):
        read_options(tmp_path)


def test_runs_are_numbered(tmp_path):
    assert next_run_folder(tmp_path / "runs", "dcgan-mnist") == tmp_path / "runs" / "00000-dcgan-mnist"
    assert not (tmp_path / "runs").exists()
    for name in ("00003-mlp-x", "00011-mlp-x", "99-other", "notes-1", "00012"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert next_run_folder(tmp_path / "runs", "a b/ü*") == tmp_path / "runs" / "00012-a_b_"


def test_states_but_two_are_removed_and_snapshots_stay(tmp_path):
    folder = RunFolder(tmp_path, preset("mlp"))
    assert folder.last_snapshot() is None
    for nimg in (1000, 2000, 3000):
        assert folder.write_snapshot({"G.a": torch.ones(1)}, nimg) == folder.last_snapshot()
        folder.write_state({"a": torch.ones(1)}, {"nimg": nimg})
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        *[f"network-snapshot-00000{kimg}.safetensors" for kimg in (1, 2, 3)],
        *[f"training-state-00000{kimg}.safetensors" for kimg in (2, 3)],
    ]


def test_the_summary_of_a_run(tmp_path):
    folder = RunFolder(tmp_path, preset("mlp"))
    folder.write_summary()
    assert not list(tmp_path.glob("*.png"))  # nothing was trained yet
    for number, name in enumerate(("fakes_init.png", "fakes000001.png", "fakes000002.png")):
        folder.write_image_grid(name, torch.full((4, 1, 16, 16), 80 * number, dtype=torch.uint8))
    folder.log.row(row(1000))
    folder.write_summary()
    with Image.open(tmp_path / "progress.webp") as animation:
        assert animation.n_frames == 3
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.width > 100


def test_the_pictures_of_a_density(tmp_path):
    folder = RunFolder(tmp_path, preset("gaussian1d"))
    folder.log.row(row(1000) | {"sample_mean": 3.9, "sample_std": 1.2, "sample_skewness": 0.1, "sample_kurtosis": None})
    folder.write_density(torch.randn(1000, 1) * 1.25 + 4, 4.0, 1.25)
    assert {path.name for path in tmp_path.glob("*.png")} == {"histogram.png", "moments.png"}
