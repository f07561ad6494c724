"""Training on data of any shape and kind, given to Trainer from Python."""
import json
import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fastgan import Trainer, UserError
from fastgan.run import live_metrics


def pair(*img_shape: int, last: type[nn.Module] = nn.Tanh) -> tuple[nn.Module, nn.Module]:
    """Return G, D of one layer each, for samples of any shape."""
    torch.manual_seed(0)
    size = int(np.prod(img_shape))
    G = nn.Sequential(nn.Linear(4, size), last(), nn.Unflatten(1, img_shape))
    return G, nn.Sequential(nn.Flatten(), nn.Linear(size, 1))


def quiet(networks, data, **options) -> Trainer:
    options = {"batch_size": 8, "compile": False, "amp": False, "progress": False} | options
    return Trainer(*networks, data, **options)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(300, 40, (24, *shape)).astype(np.float32)


IMAGES = [(5, 8, 8), (2, 8, 4), (1, 8, 8), (3, 8, 16), (4, 8, 8)]


@pytest.mark.parametrize("img_shape", IMAGES)
def test_samples_are_in_the_units_of_the_data(img_shape):
    data = numbers(*img_shape)
    trainer = quiet(pair(*img_shape), data)
    assert any("are scaled to [-1, 1] in float32" in note for note in trainer.notes)
    trainer.fit(steps=2)
    samples = trainer.sample(5, seed=1)
    assert samples.shape == (5, *img_shape)
    assert data.min() - 1e-3 <= samples.min()
    assert samples.max() <= data.max() + 1e-3
    assert samples.mean() == pytest.approx((data.min() + data.max()) / 2, abs=40)


def test_bytes_and_floats_of_the_networks_range_are_sampled_as_they_are():
    for data in (np.zeros((24, 8, 8, 1), np.uint8), np.random.default_rng(0).uniform(-1, 1, (24, 1, 8, 8))):
        trainer = quiet(pair(1, 8, 8), data)
        trainer.fit(steps=1)
        raw = trainer.sampler.samples(3, seed=1)
        assert torch.equal(trainer.sample(3, seed=1), raw)


def test_d_sees_floats_without_rounding():
    data = torch.rand(8, 1, 8, 8) / 1000  # below half a step of 8 bits
    trainer = quiet(pair(1, 8, 8), data, batch_size=8)
    seen = trainer.feed.next_batch().img
    assert torch.equal(seen.flatten(1).sum(1).sort().values, (data * 2 - 1).flatten(1).sum(1).sort().values)


def test_the_range_asked_for_is_used():
    data = np.array([[0, 1000], [2000, 4095]] * 12, np.uint16).reshape(24, 1, 1, 2)
    trainer = quiet(pair(1, 1, 2), data, range=(0, 2000), batch_size=24)
    assert trainer.feed.next_batch().img.unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("img_shape", [*IMAGES])
def test_pictures_show_images_of_any_channels(tmp_path, img_shape):
    trainer = quiet(pair(*img_shape), numbers(*img_shape), out=tmp_path / "run", grid=4)
    trainer.fit(steps=2)
    channels, height, width = img_shape
    for name in ("reals.png", "fakes_init.png", "fakes000000.png"):
        with Image.open(tmp_path / "run" / name) as image:
            assert image.mode == {1: "L", 2: "L", 3: "RGB", 4: "RGBA", 5: "RGB"}[channels]
            assert image.width / image.height == width / height


@pytest.mark.parametrize("augment", ["diff", "ada"])
@pytest.mark.parametrize("img_shape", [(3, 8, 16), (5, 8, 8), (4, 8, 8)])
def test_augmentation_of_images_of_any_shape(augment, img_shape):
    trainer = quiet(pair(*img_shape), numbers(*img_shape), augment=augment)
    assert np.isfinite(trainer.fit(steps=2)["d_loss"])


@pytest.mark.parametrize("options", [{"gp_weight": 10}, {"r1_gamma": 1, "instance_noise": 0.1}, {"mirror": True}])
@pytest.mark.parametrize("img_shape", [(5, 8, 6), (3, 8, 16)])
def test_penalties_noise_and_mirroring_of_images_of_any_shape(img_shape, options):
    assert np.isfinite(quiet(pair(*img_shape), numbers(*img_shape), **options).fit(steps=2)["d_loss"])


def test_metrics_compare_images_of_floats(monkeypatch):
    compared = []

    def evaluator(real, *_):
        compared.append(real)
        return SimpleNamespace(notes=(), metrics=())

    monkeypatch.setattr(live_metrics, "Evaluator", evaluator)
    quiet(pair(3, 8, 8), np.linspace(0, 1, 24 * 192).reshape(24, 3, 8, 8), metrics="fid24")
    assert compared[0].images.dtype == torch.uint8
    assert (compared[0].images.min(), compared[0].images.max()) == (0, 255)
    with pytest.raises(UserError, match="metrics need images of 1 or 3 channels"):
        quiet(pair(5, 8, 8), numbers(5, 8, 8), metrics="fid24")


def test_fields_by_name_and_their_labels():
    class G(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 96)

        def forward(self, z, c):
            return torch.tanh(self.net(torch.cat([z, nn.functional.one_hot(c, 2)], 1))).view(-1, 3, 4, 8)

    class D(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(98, 1)

        def forward(self, img, c):
            return self.net(torch.cat([img.flatten(1), nn.functional.one_hot(c, 2)], 1))

    data = {"cond": np.zeros((24, 2)), "class": [0, 1] * 12, "img": np.zeros((24, 4, 8, 3), np.uint8)}
    trainer = quiet((G(), D()), data, c_dim=2, z_dim=4)
    assert any("cond is not used" in note for note in trainer.notes)
    assert trainer.feed.next_batch().labels.unique().tolist() == [0, 1]
    assert trainer.fit(steps=2)["nimg"] == 16


def test_a_run_of_floats_is_resumed_to_the_bit(tmp_path):
    data, steps = numbers(5, 8, 8), 6
    whole, half = (quiet(pair(5, 8, 8), data, out=tmp_path / name) for name in ("whole", "half"))
    whole.fit(steps=steps)
    half.fit(steps=3)
    resumed = quiet(pair(5, 8, 8), data, out=tmp_path / "half", resume=True)
    resumed.fit(steps=steps)
    assert torch.equal(whole.sample(4, seed=0), resumed.sample(4, seed=0))
    options = json.loads((tmp_path / "half" / "training_options.json").read_text())
    assert options["data"]["range"] is None


# --- labels that are vectors ------------------------------------------------------------------------------------------


class VectorG(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6 + 3, 64)

    def forward(self, z, c):
        return torch.tanh(self.layer(torch.cat([z, c], 1))).view(-1, 1, 8, 8)


class VectorD(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64 + 3, 1)

    def forward(self, img, c):
        return self.layer(torch.cat([img.flatten(1), c], 1))


@pytest.mark.parametrize("images", [np.zeros((32, 8, 8, 1), np.uint8), np.zeros((32, 1, 8, 8), "f")])
def test_labels_may_be_vectors_of_floats(images):
    vectors = np.random.default_rng(0).uniform(size=(32, 3)).astype("f")
    trainer = Trainer(VectorG(), VectorD(), (images, vectors), z_dim=6, batch_size=8, compile=False, progress=False)
    assert trainer.signature.calls.G_condition.form == "one-hot"
    assert trainer.config.model.c_dim == 3
    trainer.fit(steps=2)
    chosen = torch.tensor([[0.1, 0.2, 0.3]]).expand(5, -1)
    assert trainer.sample(5, seed=0, c=chosen).shape == (5, 1, 8, 8)
    assert not torch.equal(trainer.sample(5, seed=0), trainer.sample(5, seed=0, c=chosen))
    with pytest.raises(UserError, match=r"c is float32 \[5, 3\]"):
        trainer.sample(5, c=1)
    with pytest.raises(UserError, match="a classifier cannot learn"):
        Trainer(VectorG(), VectorD(), (images, vectors), z_dim=6, class_weight=(1, 1), progress=False)


# --- loaders ----------------------------------------------------------------------------------------------------------


class Jittered(Dataset):
    """Items with a transform that is drawn anew every time; `asked` counts them."""

    def __init__(self, num: int = 24):
        self.num, self.asked = num, 0

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        if index in (1000, 1001):
            raise OSError(f"{index}.png is gone")
        self.asked += 1
        return torch.full((1, 8, 8), index / 100) + torch.rand(1, 8, 8) / 100, index % 3


class StatefulLoader(DataLoader):
    """A loader that tells its position, as torchdata's StatefulDataLoader does."""

    at, loaded = 0, 0

    def __iter__(self):
        self.at, skip, self.loaded = 0, self.loaded, 0
        for batch in super().__iter__():
            self.at += 1
            if self.at > skip:
                yield batch

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.loaded = state["at"]


def test_a_loader_is_iterated_anew_in_every_epoch_with_its_own_batch_size():
    dataset = Jittered()
    trainer = Trainer(*pair(1, 8, 8), DataLoader(dataset, batch_size=6, shuffle=True), compile=False, progress=False)
    assert trainer.config.run.batch_size == 6
    trainer.fit(epochs=4)
    assert trainer.nimg == 96
    assert dataset.asked >= 96
    assert quiet(pair(1, 8, 8), DataLoader(dataset, batch_size=6), batch_size=8).config.run.batch_size == 8


def test_a_cached_loader_and_a_bare_data_set_are_read_once():
    for data, options in ((DataLoader(Jittered(), batch_size=6), {"cache": True}), (Jittered(), {})):
        trainer = quiet(pair(1, 8, 8), data, **options)
        dataset = getattr(data, "dataset", data)
        asked = dataset.asked
        assert any("Jittered is read once into memory" in note for note in trainer.notes)
        trainer.fit(steps=9)
        assert dataset.asked == asked <= 25


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_seed_gives_the_same_run_from_a_shuffled_loader(num_workers):
    data = TensorDataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 2)
    samples = []
    for _ in range(2):
        loader = DataLoader(data, batch_size=6, shuffle=True, num_workers=num_workers)
        trainer = quiet(pair(1, 8, 8), loader)
        trainer.fit(steps=8)
        samples.append(trainer.sample(4, seed=0))
        trainer.feed.close()
    assert torch.equal(*samples)


def test_a_stream_has_no_epochs():
    class Stream(IterableDataset):
        def __iter__(self):
            while True:
                yield torch.rand(1, 8, 8)

    trainer = quiet(pair(1, 8, 8), Stream())
    with pytest.raises(UserError, match="an epoch needs a set of known length"):
        trainer.fit(epochs=1)
    assert trainer.fit(steps=3)["nimg"] == 24
    assert trainer.sample(2).shape == (2, 1, 8, 8)
    with pytest.raises(UserError, match="has none: leave it out"):
        quiet(pair(1, 8, 8), Stream(), cache=True)
    with pytest.raises(UserError, match="give cache=True"):
        quiet(pair(1, 8, 8), Stream(), metrics="fid24")


def test_a_run_on_a_stateful_loader_is_resumed_to_the_bit(tmp_path):
    def trainer(name: str, **options) -> Trainer:
        data = TensorDataset(torch.linspace(-1, 1, 20 * 64).view(20, 1, 8, 8))
        loader = StatefulLoader(data, batch_size=3, shuffle=True)
        return quiet(pair(1, 8, 8), loader, batch_size=4, out=tmp_path / name, **options)

    whole, half = trainer("whole"), trainer("half")
    whole.fit(steps=19)
    half.fit(steps=8)
    resumed = trainer("half", resume=True)
    assert not any("again" in note for note in resumed.notes)
    resumed.fit(steps=19)
    assert torch.equal(whole.sample(4, seed=0), resumed.sample(4, seed=0))


def test_a_run_on_a_plain_loader_resumes_at_its_epoch_and_says_so(tmp_path):
    def trainer(**options) -> Trainer:
        data = torch.arange(20, dtype=torch.float32).view(20, 1, 1, 1).expand(-1, 1, 8, 8) / 20
        return quiet(pair(1, 8, 8), DataLoader(data, batch_size=4), batch_size=4, out=tmp_path / "run", **options)

    trainer().fit(steps=8)
    resumed = trainer(resume=True)
    assert any("begins its epoch 2 again" in note for note in resumed.notes)
    assert resumed.feed.next_batch().img[:, 0, 0, 0].tolist() == pytest.approx([-1, -0.9, -0.8, -0.7])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_a_worker_ends_the_training_in_a_sentence(num_workers):
    loader = DataLoader(Jittered(1064), batch_size=8, num_workers=num_workers, sampler=range(840, 1064))
    trainer = quiet(pair(1, 8, 8), loader, range=(0, 11))
    with pytest.raises(UserError, match="the DataLoader of Jittered failed at batch 21 of epoch 1: OSError: 1000.png"):
        trainer.fit(steps=40)


def test_a_worker_that_was_killed_ends_the_training_in_a_sentence():
    others = multiprocessing.active_children()
    trainer = quiet(pair(1, 8, 8), DataLoader(Jittered(100_000), batch_size=8, num_workers=2), range=(0, 1000))
    ticks = trainer.ticks(steps=10_000)
    next(ticks)
    for child in multiprocessing.active_children():
        if child not in others:
            child.kill()
    with pytest.raises(UserError, match=r"the DataLoader of Jittered failed at batch \d+ of epoch 1: "):
        for _ in ticks:
            pass


def test_labels_of_a_loader_condition_the_networks():
    class G(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(7, 64)

        def forward(self, z, c):
            return torch.tanh(self.net(torch.cat([z, nn.functional.one_hot(c, 3)], 1))).view(-1, 1, 8, 8)

    class D(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(67, 1)

        def forward(self, img, c):
            return self.net(torch.cat([img.flatten(1), nn.functional.one_hot(c, 3)], 1))

    trainer = quiet((G(), D()), DataLoader(Jittered(), batch_size=6), c_dim=3, z_dim=4)
    batch = trainer.feed.next_batch()
    assert batch.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    trainer.fit(steps=2)


def test_vectors_of_a_loader_are_conditions_of_samples():
    vectors = torch.rand(32, 3)
    data = TensorDataset(torch.zeros(32, 1, 8, 8), vectors)
    trainer = quiet((VectorG(), VectorD()), DataLoader(data, batch_size=8), z_dim=6, c_dim=3)
    trainer.fit(steps=2)
    assert trainer.sample(5, c=torch.rand(5, 3)).shape == (5, 1, 8, 8)


def test_a_range_is_for_flat_samples_too():
    points = np.random.default_rng(0).uniform(0, 100, (64, 2)).astype("f")
    trainer = quiet((nn.Linear(4, 2), nn.Linear(2, 1)), points, z_dim=4, range=(0, 100))
    assert trainer.feed.next_batch().img.abs().max() <= 1


def test_a_loader_goes_on_with_the_next_epoch(tmp_path):
    """Where a run ends with an epoch, the resumed one begins the next."""
    data = TensorDataset(torch.arange(192.0)[:, None, None, None].expand(-1, 1, 8, 8) / 192)
    batches = []
    for lengths in ([13], [12, 13]):
        for part, steps in enumerate(lengths):
            trainer = quiet(pair(1, 8, 8), DataLoader(data, 16, shuffle=True), batch_size=16,
                            out=tmp_path / str(len(lengths)), resume=part > 0)  # fmt: skip
            trainer.fit(steps=steps)
        batches.append(trainer.feed.next_batch().img[:, 0, 0, 0])
    assert torch.equal(*batches)
