"""Training by class labels from end to end.

It covers the presets' networks through the command line, and a user's own.
"""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from fastgan import Trainer, UserError, cli
from fastgan.run import checkpoint
from fastgan.run.folder import read_options

CLASSES = ("bag", "coat", "shirt")
FAST = ["--no-compile", "--no-amp", "--batch-size", "8"]
NARROW = ["--set", "model.ngf=8", "--set", "model.ndf=8", "--set", "run.grid=6", "--resolution", "16"]
CGAN = ["train", "--preset", "cgan", "--data", "photos", *FAST, *NARROW]


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    """Run every test in a folder with photos/ and plain.npy.

    photos/ has 3 classes of 10 images of 16x16 each, plain.npy has no classes.
    """
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 16, 16), dtype=np.uint8)
    for number, image in enumerate(pixels):
        path = Path("photos", CLASSES[number % 3], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    np.save("plain.npy", pixels)


def rows(run: str = "run") -> list[dict]:
    return [json.loads(line) for line in Path(run, "stats.jsonl").read_text().splitlines()]


def fails(capsys, *arguments: str) -> str:
    assert cli.main([*arguments]) == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading ")]
    return sentence


# --- the command line -------------------------------------------------------------------------------------------------


def test_a_run_its_grids_and_its_samples(capsys):
    assert cli.main([*CGAN, "--steps", "3", "--out", "run"]) == 0
    assert read_options(Path("run")).model.c_dim == 3
    with Image.open("run/fakes_init.png") as grid:
        assert grid.size == (8 * 32, 3 * 32)  # a class a row, at least 8 of each, 16 px enlarged to 32
    _, header = checkpoint.load_tensors(Path("run/network-snapshot-000000.safetensors"), "snapshot")
    assert header["class_names"] == list(CLASSES)
    capsys.readouterr()
    for arguments, said, size in (
        ([], "wrote 24 images", (256, 96)),
        (["--num", "30"], "wrote 30 images", (320, 96)),
        (["--class", "shirt", "--num", "4"], "wrote 4 images", (64, 64)),
        (["--class", "2", "--num", "4"], "wrote 4 images", (64, 64)),
    ):
        assert (
            cli.main(["sample", "run", "--out", f"{len(arguments)}{arguments[1:2]}.png", "--num", "24", *arguments])
            == 0
        )
        assert said in capsys.readouterr().out
        with Image.open(f"{len(arguments)}{arguments[1:2]}.png") as picture:
            assert picture.size == size
    assert Path("4['shirt'].png").read_bytes() == Path("4['2'].png").read_bytes()
    for wrong in ("3", "-1", "hat", "Shirt"):
        assert "is none of the classes of run: 0 to 2, or bag, coat, shirt" in fails(
            capsys, "sample", "run", f"--class={wrong}"
        )


def test_a_run_without_classes_has_none_to_sample(capsys):
    mlp = ["--preset", "mlp", "--set", "G_hidden=8", "--set", "D_hidden=8"]
    assert cli.main(["train", *mlp, "--data", "photos", *FAST, "--steps", "1", "--out", "run"]) == 0
    assert "--class 1: run was trained without classes; leave --class out" in fails(
        capsys, "sample", "run", "--class", "1"
    )


@pytest.mark.parametrize("arguments", [["--preset", "cgan", *NARROW], ["--preset", "dcgan", "--cond", *NARROW]])
def test_data_without_labels(capsys, arguments):
    sentence = fails(capsys, "train", *FAST, *arguments, "--data", "plain.npy", "--steps", "1", "--out", "run")
    assert (
        "plain.npy has no labels, which conditional training needs: give a folder or zip with a folder for each class"
        in sentence
    )
    assert not Path("run").exists()


def test_networks_that_cannot_be_told_classes(capsys):
    sentence = fails(capsys, "train", "--preset", "wgan-gp-tiny", "--cond", "--data", "photos", *FAST, "--out", "run")
    assert "are unconditional: leave out --cond" in sentence


@pytest.mark.parametrize(("switch", "c_dim"), [("--cond", 3), ("--no-cond", 0)])
def test_conditions_are_switched_on_and_off(switch, c_dim):
    assert (
        cli.main(
            ["train", "--preset", "dcgan", switch, "--data", "photos", *FAST, *NARROW, "--steps", "1", "--out", "run"]
        )
        == 0
    )
    assert read_options(Path("run")).model.c_dim == c_dim


@pytest.mark.parametrize("options", [
    ["--preset", "cgan", *NARROW],
    ["--preset", "cgan", *NARROW, "--batch-gpu", "4"],
    ["--preset", "cgan", *NARROW, "--augment", "diff"],
    ["--preset", "dcgan", *NARROW, "--augment", "ada"],
    pytest.param(["--preset", "acgan-tiny", *NARROW], marks=pytest.mark.slow),
])  # fmt: skip
def test_a_run_is_resumed_to_the_bit(options):
    for run, steps in (("whole", ["3"]), ("halves", ["1", "3"])):
        assert (
            cli.main(
                ["train", *options, "--data", "photos", *FAST, "--steps", steps[0], "--tick", "0.001", "--out", run]
            )
            == 0
        )
        for more in steps[1:]:  # with random numbers, data and schedules where they were
            assert cli.main(["train", "--resume", run, "--steps", more]) == 0
    whole, halves = (
        checkpoint.load_tensors(Path(run, "training-state-000000.safetensors"), "state")[0]
        for run in ("whole", "halves")
    )
    assert whole.keys() == halves.keys()
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []


def test_parts_of_a_batch_add_up_to_the_whole():
    """BatchNorm sees the parts, so a network without it: mlp."""
    narrow = ["--set", "G_hidden=8", "--set", "D_hidden=8", "--resolution", "16"]
    mlp = ["train", "--preset", "cgan-mlp", "--data", "photos", *FAST, *narrow, "--steps", "1"]
    for run, parts in (("whole", []), ("parts", ["--batch-gpu", "2"])):
        assert cli.main([*mlp, *parts, "--out", run]) == 0
    ours, theirs = rows("parts")[-1], rows("whole")[-1]
    for name in ("d_loss", "g_loss", "real_logits", "fake_logits", "gradient_norm_D"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.2)


def test_a_part_that_does_not_divide_the_batch(capsys):
    assert "--batch-gpu 3 does not divide --batch-size 8" in fails(
        capsys, *CGAN, "--batch-gpu", "3", "--steps", "1", "--out", "run"
    )


def test_augmentation_that_adapts_writes_its_probability():
    assert (
        cli.main(
            [
                *CGAN,
                "--augment",
                "ada",
                "--set",
                "augment.ada_kimg=0.1",
                "--set",
                "augment.target=-2",
                "--steps",
                "6",
                "--out",
                "run",
            ]
        )
        == 2
    )
    assert (
        cli.main(
            [
                *CGAN,
                "--augment",
                "ada",
                "--set",
                "augment.ada_kimg=0.1",
                "--set",
                "augment.target=0",
                "--steps",
                "6",
                "--out",
                "run",
            ]
        )
        == 0
    )
    assert 0 <= rows()[-1]["augment_p"] <= 1


# --- a user's own networks --------------------------------------------------------------------------------------------


class Generator(nn.Module):
    def __init__(self, one_hot: bool):
        super().__init__()
        self.one_hot, self.embed = one_hot, nn.Linear(3, 4, bias=False) if one_hot else nn.Embedding(3, 4)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 256), nn.Tanh())
        self.seen = set()

    def forward(self, z, c):
        self.seen.add((c.dtype, tuple(c.shape[1:])))
        return self.layers(torch.cat([z, self.embed(c)], 1)).view(-1, 1, 16, 16)


class Discriminator(nn.Module):
    def __init__(self, one_hot: bool, classifies: bool = False):
        super().__init__()
        self.embed = nn.Linear(3, 16, bias=False) if one_hot else nn.Embedding(3, 16)
        self.trunk, self.head = (
            nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.LeakyReLU(0.2), nn.Dropout(0.1)),
            nn.Linear(16, 1),
        )
        self.classifier = nn.Linear(16, 3) if classifies else None

    def forward(self, img, c):
        features = self.trunk(img)
        logits = self.head(features).squeeze(1) + (features * self.embed(c)).sum(1)
        return logits if self.classifier is None else (logits, self.classifier(features))


def labelled(num: int = 48, classes: int = 3):
    """Return images as bright as their class."""
    labels = np.arange(num) % classes
    noise = np.random.default_rng(0).integers(0, 40, (num, 16, 16))
    return (noise + 80 * labels[:, None, None]).astype(np.uint8), labels


def own(one_hot: bool = False, classifies: bool = False, **options) -> Trainer:
    torch.manual_seed(0)
    options = {
        "c_dim": 3,
        "z_dim": 4,
        "batch_size": 8,
        "compile": False,
        "amp": False,
        "progress": False,
        "data": labelled(),
    } | options
    return Trainer(Generator(one_hot), Discriminator(one_hot, classifies), **options)


@pytest.mark.parametrize("one_hot", [False, True])
def test_classes_come_as_the_networks_take_them(one_hot):
    trainer = own(one_hot)
    trainer.state.G.seen.clear()
    trainer.fit(steps=4)
    assert trainer.state.G.seen == {(torch.float32, (3,)) if one_hot else (torch.int64, ())}
    assert trainer.signature.calls.G_condition.form == ("one-hot" if one_hot else "numbers")
    for c in (None, 1, torch.tensor([0, 2, 1, 1, 0])):
        assert trainer.sample(5, seed=0, c=c).shape == (5, 1, 16, 16)
    assert not torch.equal(trainer.sample(5, seed=0, c=0), trainer.sample(5, seed=0, c=2))


def test_one_hot_and_numbers_are_the_same_training():
    """An embedding, and a Linear without bias of equal weights."""
    one, other = own(False), own(True)
    for ours, theirs in ((one.state.G, other.state.G), (one.state.D, other.state.D)):
        with torch.no_grad():
            theirs.embed.weight.copy_(ours.embed.weight.T)
        weights = {name: tensor for name, tensor in ours.state_dict().items() if "embed" not in name}
        theirs.load_state_dict(weights, strict=False)
    torch.manual_seed(1)
    first = one.fit(steps=1)
    torch.manual_seed(1)
    assert other.fit(steps=1)["d_loss"] == pytest.approx(first["d_loss"], rel=1e-5)


def test_the_class_is_learnt():
    trainer = own(batch_size=16, lr=5e-3)
    trainer.fit(steps=60)
    means = [trainer.sample(16, seed=0, c=c).mean().item() for c in range(3)]
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize("one_hot", [False, True])
def test_a_conditional_run_of_ones_own_is_resumed_to_the_bit(tmp_path, one_hot):
    options = {"one_hot": one_hot, "ema_kimg": 0.1, "seed": 3, "augment": "diff"}
    states = []
    for folder, lengths in (("whole", [5]), ("halves", [2, 5])):
        torch.manual_seed(5)
        for part, steps in enumerate(lengths):
            trainer = own(out=tmp_path / folder, resume=part > 0, **options)
            if part == 0:
                torch.manual_seed(5)
            trainer.fit(steps=steps)
        states.append(
            {
                f"{group}/{name}": tensor
                for group, named in trainer.state.tensors().items()
                for name, tensor in named.items()
            }
        )
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def test_an_auxiliary_classifier_of_ones_own(tmp_path):
    trainer = own(classifies=True, class_weight=(1.0, 0.5), out=tmp_path / "run", lr=5e-3)
    first = next(trainer.ticks(steps=30))["class_loss"]
    assert trainer.fit(steps=30)["class_loss"] < first
    assert (tmp_path / "run" / "losses.png").exists()
    with pytest.raises(UserError, match="returns a pair"):
        own(class_weight=(1.0, 0.5))


def test_labels_beyond_the_classes_that_were_said():
    with pytest.raises(UserError, match="has 5 classes, the network 3"):
        own(data=labelled(50, 5))
    with pytest.raises(UserError, match="has no labels, which conditional training needs"):
        own(data=labelled()[0])


def test_networks_that_take_no_classes_where_they_should():
    pair = nn.Sequential(nn.Linear(4, 256), nn.Tanh()), nn.Linear(256, 1)
    with pytest.raises(UserError, match=r"G does not take z with classes as \[N, 4\]"):
        Trainer(*pair, labelled(), c_dim=3, z_dim=4, batch_size=8, compile=False, progress=False)


def test_one_hot_is_what_functional_gives():
    trainer = own(True)
    labels = torch.tensor([2, 0])
    (given,) = trainer.state.calls.G_condition(labels, torch.zeros(2, 4))
    assert torch.equal(given, F.one_hot(labels, 3).float())
