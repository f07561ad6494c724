"""Snapshots turned back into a generator and into pictures."""
import gans
import pytest
import torch
from PIL import Image

from fastgan import models, plots
from fastgan.config import Config, replace
from fastgan.errors import UserError
from fastgan.gan.train_state import TrainState
from fastgan.run import checkpoint
from fastgan.run.folder import RunFolder
from fastgan.run.snapshots import Truncated, load_generator, write_samples

KINDS = ["dcgan", "mlp", "mlp-tf", "gaussian1d"]


def saved(folder, config: Config, nimg: int = 5000, state: TrainState | None = None):
    """Return (networks, path of a snapshot of them as a run writes it)."""
    state = state or gans.tiny_networks(config)
    return state, RunFolder(folder, config, resume_nimg=0).write_snapshot(state.weights(), nimg)


@pytest.mark.parametrize("name", KINDS)
def test_the_generator_is_the_one_that_was_saved(tmp_path, name):
    state, path = saved(tmp_path, gans.tiny_config(name))
    G, config = load_generator(path)
    assert config == gans.tiny_config(name)
    assert not G.training
    ours, theirs = G.state_dict(), state.G.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_moving_average_goes_before_g(tmp_path):
    config = gans.tiny_config("mlp", optim__ema_kimg=1.0)
    state = gans.tiny_networks(config)
    with torch.no_grad():
        for parameter in state.G_ema.parameters():
            parameter.add_(1)
    _, path = saved(tmp_path, config, state=state)
    G, _ = load_generator(path)
    assert torch.equal(G.layers[0].weight, state.G_ema.layers[0].weight)


def test_of_a_run_folder_the_newest_is_taken(tmp_path):
    config = gans.tiny_config("mlp")
    state, _ = saved(tmp_path, config, 12_000)
    with torch.no_grad():
        state.G.layers[0].bias.fill_(7)
    saved(tmp_path, config, 120_000, state)
    assert load_generator(tmp_path)[0].layers[0].bias.eq(7).all()


@pytest.mark.parametrize(("name", "num", "size"), [("dcgan", 6, (3 * 32, 2 * 32)), ("mlp-tf", 1, (32, 32))])
def test_a_picture_of_the_right_size(tmp_path, name, num, size):
    _, path = saved(tmp_path / "run", gans.tiny_config(name))
    said = write_samples(path, tmp_path / "out.png", num, seed=0)
    assert said == f"wrote {num} images to {tmp_path / 'out.png'}"
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == size  # 16 px enlarged to 32
        assert picture.mode == "L"
        assert picture.getextrema()[0] < picture.getextrema()[1]


def test_the_seed_decides_the_picture(tmp_path):
    _, path = saved(tmp_path / "run", gans.tiny_config("mlp"))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_samples(path, tmp_path / f"{name}.png", 4, seed)
    content = {name: (tmp_path / f"{name}.png").read_bytes() for name in "abc"}
    assert content["a"] == content["b"] != content["c"]


def test_a_density_is_a_histogram(tmp_path):
    _, path = saved(tmp_path / "run", gans.tiny_config("gaussian1d"))
    assert "histogram of 500 samples" in write_samples(path, tmp_path / "out.png", 500, seed=0)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width > 100


@pytest.mark.parametrize(("class_name", "size"), [(None, (8, 3)), ("1", (3, 2)), ("eels", (3, 2))])
def test_a_grid_of_classes_or_of_one(tmp_path, class_name, size):
    """A class a row, eight in a row at least; one class alone: as many images as were asked for."""
    config = gans.tiny_config("cgan")
    path = RunFolder(tmp_path / "run", config, resume_nimg=0).write_snapshot(
        gans.tiny_networks(config).weights(), 0, ("cats", "dogs", "eels")
    )
    said = write_samples(path, tmp_path / "out.png", 6, seed=0, class_name=class_name)
    assert said.startswith(f"wrote {size[0] * size[1]} images")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (32 * size[0], 32 * size[1])


@pytest.mark.parametrize(("preset", "class_name", "words"), [
    ("cgan", "3", "none of the classes of .*: 0 to 2, or cats, dogs, eels"), ("cgan", "-1", "none of the classes"),
    ("cgan", "", "none of the classes"), ("mlp", "0", "was trained without classes"),
])  # fmt: skip
def test_a_class_that_is_not_there(tmp_path, preset, class_name, words):
    config = gans.tiny_config(preset)
    path = RunFolder(tmp_path, config, resume_nimg=0).write_snapshot(
        gans.tiny_networks(config).weights(), 0, ("cats", "dogs", "eels")
    )
    with pytest.raises(UserError, match=words):
        write_samples(path, tmp_path / "out.png", 6, seed=0, class_name=class_name)


def drawn(monkeypatch, path, tmp_path, truncation: float | None) -> torch.Tensor:
    """Return the images of a grid, uint8 [16, C, H, W]."""
    images = []
    monkeypatch.setattr(plots, "save_grid", lambda grid, out, columns: images.append(grid))
    write_samples(path, tmp_path / "out.png", 16, seed=0, truncation=truncation)
    return images[0].float()


@pytest.mark.parametrize("preset", ["stylegan2", "mlp"])
def test_truncation_gives_variety_up(monkeypatch, tmp_path, preset):
    """Truncation acts on styles where G has some, otherwise on z.

    At 0 all images are (nearly) one, at 1 nothing is changed.
    """
    _, path = saved(tmp_path, gans.tiny_config(preset))
    whole, half, none = (drawn(monkeypatch, path, tmp_path, psi).std(0).mean() for psi in (None, 0.5, 0.0))
    assert none < 0.5 < half < whole
    assert torch.equal(drawn(monkeypatch, path, tmp_path, 1.0), drawn(monkeypatch, path, tmp_path, None))


@pytest.mark.parametrize(("preset", "truncation", "words"), [
    ("mlp", 1.5, "between 0 and 1"), ("mlp", -0.1, "between 0 and 1"), ("mlp", float("nan"), "between 0 and 1"),
    ("mlp-tf", 0.5, "z is uniform"),
])  # fmt: skip
def test_a_truncation_that_means_nothing(tmp_path, preset, truncation, words):
    _, path = saved(tmp_path, gans.tiny_config(preset))
    with pytest.raises(UserError, match=words):
        write_samples(path, tmp_path / "out.png", 4, seed=0, truncation=truncation)


def assert_refused(path, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_generator(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_snapshot(tmp_path):
    assert_refused(tmp_path, "holds no network-snapshot-*.safetensors")


def test_a_file_that_is_not_there(tmp_path):
    assert_refused(tmp_path / "network-snapshot-000005.safetensors", "there is no file")


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: content[:100], lambda content: b"", lambda content: b"\0" * 400],
)
def test_a_damaged_snapshot(tmp_path, damage):
    _, path = saved(tmp_path, gans.tiny_config("mlp"))
    path.write_bytes(damage(path.read_bytes()))
    assert_refused(path, "damaged")


def test_a_training_state_is_no_snapshot(tmp_path):
    RunFolder(tmp_path, gans.tiny_config("mlp")).write_state({"a": torch.ones(1)}, {"nimg": 5000})
    assert_refused(
        tmp_path / "training-state-000005.safetensors", "is a training state, but a network snapshot is needed"
    )


def test_a_snapshot_of_other_sizes_than_it_says(tmp_path):
    narrow, wide = gans.tiny_config("dcgan"), gans.tiny_config("dcgan", model__ngf=16)
    path = RunFolder(tmp_path, wide).write_snapshot(gans.tiny_networks(narrow).weights(), 5000)
    assert_refused(path, "is of another architecture")


@pytest.mark.parametrize(
    "header", [{}, {"config": None}, {"config": {"modell": {}}}, {"config": {"model": {"ngf": "8"}}}]
)
def test_a_snapshot_that_does_not_say_what_it_is(tmp_path, header):
    path = tmp_path / "network-snapshot-000005.safetensors"
    checkpoint.save_tensors(path, {"G.a": torch.ones(1)}, {"kind": "snapshot"} | header)
    assert_refused(path, "does not name its networks")


def test_networks_of_a_users_own_are_loaded_in_python(tmp_path):
    config = replace(gans.tiny_config("mlp"), "model.architecture", "custom")
    path = RunFolder(tmp_path, config).write_snapshot({"G.weight": torch.ones(2, 2)}, 5000)
    assert_refused(path, "your own networks: load it in Python")


def test_without_the_moving_average_that_it_promises(tmp_path):
    config = gans.tiny_config("mlp")
    G, _ = models.build(config.model)
    path = RunFolder(tmp_path, replace(config, "optim.ema_kimg", 1.0)).write_snapshot(
        {f"G.{k}": v for k, v in G.state_dict().items()}, 5000
    )
    assert_refused(path, "G_ema.layers.0.weight is absent in the file")


# --- classes and truncation -------------------------------------------------------------------------------------------


@pytest.fixture
def conditional(tmp_path):
    """Make a snapshot of a generator of 3 classes that have names."""
    config = gans.tiny_config("cgan")
    state = gans.tiny_networks(config)
    with torch.no_grad():
        for parameter in state.G.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # before training all classes are alike
    return RunFolder(tmp_path / "run", config, resume_nimg=0).write_snapshot(
        state.weights(), 5000, ("bag", "7", "coat")
    )


def written(path, out, **options) -> bytes:
    write_samples(path, out, 4, 0, **options)
    return out.read_bytes()


def test_a_class_by_its_number_and_by_its_name(conditional, tmp_path):
    pictures = [
        written(conditional, tmp_path / "out.png", class_name=name) for name in ("0", "bag", "1", "7", "2", "coat")
    ]
    assert pictures[0] == pictures[1] != pictures[2] == pictures[3] != pictures[4] == pictures[5]
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (64, 64)


def test_without_a_class_there_is_a_class_a_row(conditional, tmp_path):
    assert write_samples(conditional, tmp_path / "out.png", 4, 0).startswith("wrote 24 images")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (8 * 32, 3 * 32)


@pytest.mark.parametrize("name", ["3", "-1", "Bag", "", "1.0"])
def test_a_class_that_the_snapshot_does_not_have(conditional, tmp_path, name):
    with pytest.raises(UserError, match="is none of the classes of .*: 0 to 2, or bag, 7, coat"):
        write_samples(conditional, tmp_path / "out.png", 4, 0, class_name=name)


def test_a_generator_that_knows_no_classes(tmp_path):
    _, path = saved(tmp_path / "run", gans.tiny_config("mlp"))
    with pytest.raises(UserError, match="--class 1: .* was trained without classes; leave --class out"):
        write_samples(path, tmp_path / "out.png", 4, 0, class_name="1")


class Keeping(torch.nn.Module):
    """A generator that keeps its z."""

    def forward(self, z):
        self.z = z
        return torch.zeros(len(z), 1, 4, 4)


@pytest.mark.parametrize(("psi", "limit"), [(0.5, 1.0), (0.1, 0.2), (0.0, 1e-3)])
def test_truncation_cuts_the_tails_of_z_off(monkeypatch, tmp_path, psi, limit):
    G = Keeping()
    monkeypatch.setattr("fastgan.run.snapshots.load_generator", lambda path: (G, gans.tiny_config("mlp")))
    monkeypatch.setattr("fastgan.run.snapshots.generate_chunks", lambda G, z, *_, **__: G(z))
    write_samples(tmp_path, tmp_path / "out.png", 100, 0, truncation=psi)
    assert G.z.abs().max() <= limit
    assert G.z.abs().max() > 0.9 * limit
    write_samples(tmp_path, tmp_path / "out.png", 100, 0, truncation=1.0)
    whole = G.z
    write_samples(tmp_path, tmp_path / "out.png", 100, 0)
    assert torch.equal(G.z, whole)
    assert whole.abs().max() > 2.5


def test_truncation_of_styles_ends_at_their_average(tmp_path):
    config = gans.tiny_config("stylegan2")
    _, path = saved(tmp_path / "run", config)
    ours, same, other = (written(path, tmp_path / "out.png", truncation=psi) for psi in (1.0, None, 0.3))
    assert ours == same != other
    G, _ = load_generator(path)
    z = torch.randn(3, config.model.z_dim)
    with torch.no_grad():
        average, nearer, whole = (Truncated(G, psi)(z) for psi in (0.0, 0.5, 1.0))
    assert torch.equal(average[0], average[1])
    assert torch.allclose(whole, G(z), atol=1e-5)
    assert not torch.allclose(nearer, whole, atol=1e-5)


@pytest.mark.parametrize(("name", "psi", "words"), [
    ("mlp", 1.5, "--truncation is 1.5; it must lie between 0 and 1"),
    ("mlp", -0.1, "--truncation is -0.1"),
    ("mlp", float("nan"), "--truncation is nan"),
    ("mlp-tf", 0.5, "cuts off the tails of a normal distribution, and this G's z is uniform; leave it out"),
])  # fmt: skip
def test_a_truncation_that_cannot_be(tmp_path, name, psi, words):
    _, path = saved(tmp_path / "run", gans.tiny_config(name))
    with pytest.raises(UserError, match=words):
        write_samples(path, tmp_path / "out.png", 4, 0, truncation=psi)
