"""The evaluator as a training uses it.

Numbers by their names, real images read once, and sentences about the meaning of the numbers.
"""
import pytest
import torch

from fastgan.data import ImageSet
from fastgan.errors import UserError
from fastgan.metrics import Evaluator, evaluator, kid, precision_recall
from fastgan.metrics.frechet import RunningMoments, frechet_distance, target

CPU = torch.device("cpu")


class Pixels(torch.nn.Module):
    """A feature network for tests: the first four pixels."""

    num_features, identity = 4, "pixels"

    def __init__(self, name):
        super().__init__()
        self.name, self.num_seen = name, 0

    def forward(self, images):
        self.num_seen += len(images)
        return images.float().flatten(1)[:, :4] / 255


@pytest.fixture
def state(monkeypatch, tmp_path):
    """Return the networks that evaluators have opened, in order."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    opened = []
    monkeypatch.setattr(
        evaluator, "open_features", lambda name, real, device, progress: opened.append(Pixels(name)) or opened[-1]
    )
    return opened


def images(num: int, seed: int, high: int = 256) -> torch.Tensor:
    return torch.randint(0, high, (num, 1, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def image_set(num: int = 60) -> ImageSet:
    return ImageSet(images(num, 0).permute(0, 2, 3, 1).contiguous(), None, None, "noise")


class Playing:
    """A generator that plays images one after another, and starts again at the end."""

    def __init__(self, played: torch.Tensor):
        self.played, self.asked, self.position = played, [], 0

    def __call__(self, num: int) -> torch.Tensor:
        self.asked.append(num)
        rows = (self.position + torch.arange(num)) % len(self.played)
        self.position += num
        return self.played[rows]


def test_every_metric_is_that_of_its_own_file(state):
    generate = Playing(images(50, 1, 200))
    numbers = Evaluator(image_set(), "fid50,fid30_full,kid40,pr40,dc30", batch_size=16).evaluate(generate)
    assert list(numbers) == ["fid50", "fid30_full", "kid40", "precision40", "recall40", "density30", "coverage30"]
    assert sum(generate.asked) == 50
    assert max(generate.asked) == 16

    def features(img, num):
        return img.float().flatten(1)[:num, :4] / 255

    def spread(num):
        return features(images(60, 0)[[index * 59 // (num - 1) for index in range(num)]], num)

    def moments(x):
        running = RunningMoments(4, CPU)
        running.add(x)
        return running
    fake = features(images(50, 1, 200), 50)
    assert numbers["fid50"] == pytest.approx(frechet_distance(target(moments(spread(50))), moments(fake)), rel=1e-6)
    assert numbers["fid30_full"] == pytest.approx(
        frechet_distance(target(moments(spread(60))), moments(fake[:30])), rel=1e-6
    )
    assert numbers["kid40"] == pytest.approx(kid.kernel_distance(spread(40), fake[:40]), abs=1e-6)
    assert numbers["precision40"] == precision_recall.precision(
        spread(40), precision_recall.squared_radii(spread(40), 3), fake[:40]
    )
    assert numbers["recall40"] == precision_recall.precision(
        fake[:40], precision_recall.squared_radii(fake[:40], 3), spread(40)
    )
    density, coverage = precision_recall.density_and_coverage(
        spread(30), precision_recall.squared_radii(spread(30), 5), fake[:30], 5
    )
    assert (numbers["density30"], numbers["coverage30"]) == (density, coverage)


def test_the_set_itself_is_perfect_and_collapse_is_not(state):
    measuring = Evaluator(image_set(), "fid60,kid60,pr60,dc60")
    perfect = measuring.evaluate(Playing(images(60, 0)))
    assert perfect["fid60"] == pytest.approx(0, abs=1e-6)
    assert perfect["precision60"] == perfect["recall60"] == perfect["coverage60"] == 1
    collapsed = measuring.evaluate(Playing(images(1, 0)))
    assert collapsed["fid60"] > 0.1
    assert collapsed["kid60"] > perfect["kid60"]
    assert collapsed["precision60"] == 1
    assert collapsed["recall60"] < 0.1
    assert collapsed["coverage60"] < 0.5


def test_real_images_are_looked_at_once(state):
    measuring = Evaluator(image_set(), "fid20,kid20,pr20,dc20")
    first = measuring.evaluate(Playing(images(30, 1)))
    assert state[0].num_seen == 20 + 20  # generated and real ones
    assert measuring.evaluate(Playing(images(30, 1))) == first
    assert state[0].num_seen == 40 + 20
    assert Evaluator(image_set(), "fid20,kid20,pr20,dc20").evaluate(Playing(images(30, 1))) == first
    assert state[1].num_seen == 20


def test_other_networks_have_other_names(state):
    measuring = Evaluator(image_set(), "fid20,kid20,pr20,dc20", features="small")
    assert list(measuring.evaluate(Playing(images(20, 1)))) == [
        "fd_small_20", "kd_small_20", "precision_small_20",
        "recall_small_20", "density_small_20", "coverage_small_20"]  # fmt: skip
    assert measuring.notes == (
        "small is not the Inception network of FID: its numbers compare generators with each other, not with papers",
    )


@pytest.mark.parametrize(("asked", "num_real", "words"), [
    ("fid4", 60, "fid4 takes a covariance of 4 features from 4 images, which is singular"),
    ("fid50_full", 4, "fid50_full takes a covariance of 4 features from 4 images"),
    ("kid50", 40, "kid50 is measured beside all 40 real images"),
])
def test_few_images_are_told(state, asked, num_real, words):
    [note] = Evaluator(image_set(num_real), asked).notes
    assert note.startswith(words)


def test_enough_images_need_no_words(state):
    assert Evaluator(image_set(), "fid5,kid4,pr4,fid,kid").notes == ()


@pytest.mark.parametrize("answer", [torch.zeros(20, 1, 4, 4), torch.zeros(20, 3, 4, 4, dtype=torch.uint8),
                                    torch.zeros(20, 1, 8, 8, dtype=torch.uint8),
                                    torch.zeros(19, 1, 4, 4, dtype=torch.uint8)])  # fmt: skip
def test_images_of_another_kind_are_refused(state, answer):
    with pytest.raises(UserError, match=r"was asked for uint8 \[20, 1, 4, 4\]"):
        Evaluator(image_set(), "fid20").evaluate(lambda num: answer)


def test_images_with_an_alpha_channel_are_refused(state):
    translucent = ImageSet(torch.zeros(20, 4, 4, 4, dtype=torch.uint8), None, None, "logos")
    with pytest.raises(UserError, match="those of logos have an alpha channel"):
        Evaluator(translucent, "fid20")


def test_judges_are_asked_with_the_classes(state, monkeypatch):
    class Judge:
        note = "a note"

        def __init__(self, real, device, progress):
            pass

        def judge(self, img, asked):
            return asked

        def numbers(self, verdicts):
            return {"": verdicts.double().mean().item(), "_most": verdicts.max().item()}
    monkeypatch.setattr(evaluator, "JUDGES", {"accuracy": Judge, "modes": Judge})
    measuring = Evaluator(image_set(), "accuracy10,fid10", features="small", batch_size=5)
    numbers = measuring.evaluate(lambda num: (images(num, 1), torch.arange(num)))
    assert numbers["accuracy10"] == 2
    assert numbers["accuracy10_most"] == 4
    assert measuring.notes[-1] == "a note"
    alone = Evaluator(image_set(), "modes7")
    assert len(state) == 1  # no network for metrics without features
    assert alone.evaluate(lambda num: (images(num, 1), torch.arange(num)))["modes7"] == 3


def test_evaluating_leaves_gradients_on(state):
    Evaluator(image_set(), "kid5").evaluate(Playing(images(5, 1)))
    assert torch.is_grad_enabled()
