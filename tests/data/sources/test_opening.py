import pytest
from PIL import Image

from fastgan.data import open_source
from fastgan.errors import UserError


@pytest.mark.parametrize(
    ("given", "nearest"), [("mnits", "mnist"), ("CIFAR-10", "cifar10"), ("fashion_mnist", "fashion-mnist")]
)
def test_a_misspelt_name_suggests_the_nearest(given, nearest):
    with pytest.raises(UserError, match=f"{given}.*did you mean '{nearest}'"):
        open_source(given)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(
        UserError,
        match=r"nowhere.* is neither a path that exists nor the name of a known set; .* and stacked: before "
        "any of them",
    ):
        open_source(tmp_path / "nowhere")


def test_files_of_other_kinds_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"notes\.txt has an unknown format"):
        open_source(tmp_path / "notes.txt")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.npz has an unknown format"):
        open_source(tmp_path / "empty.npz")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is a single file"):
        open_source(tmp_path / "a.png")


def test_a_path_wins_over_a_name_only_when_written_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "mnist").mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "mnist" / f"{name}.png")
    assert open_source("mnist").num_images == 60000
    assert open_source("./mnist").num_images == 2
