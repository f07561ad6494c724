"""Labels that StyleGAN's dataset_tool writes, in a zip and in a folder."""
import json
import zipfile

import pytest
from image_files import encoded, picture

from fastgan.data import classes_of, open_source
from fastgan.errors import UserError

NAMES = [f"0000{index // 2}/img{index}.png" for index in range(4)]


@pytest.fixture(params=["zip", "folder", "folder in a zip"])
def write(request, tmp_path):
    """Return a function that writes four images and a dataset.json, and opens the set."""
    def opened(content: bytes | dict):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        files = {name: encoded(picture(8, 8, seed=index)) for index, name in enumerate(NAMES)}
        top = "set/" if request.param == "folder in a zip" else ""
        files = {top + name: data for name, data in [*files.items(), ("dataset.json", content)]}
        return open_source(_as_zip(files, tmp_path) if "zip" in request.param else _as_folder(files, tmp_path))
    return opened


def _as_zip(files, folder):
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "set.zip"


def _as_folder(files, folder):
    for name, content in files.items():
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / name).write_bytes(content)
    return folder / "set"


def test_class_numbers_come_before_class_folders_in_any_order(write):
    source = write({"labels": [[name, index % 3] for index, name in reversed(list(enumerate(NAMES)))]})
    assert source.labels.tolist() == [0, 1, 2, 0]
    assert source.class_names is None
    assert source.read(8, 3).labels.tolist() == [0, 1, 2, 0]
    assert classes_of(source) == (3, None)
    assert source.notes(3) == ()


def test_one_hot_vectors_are_class_numbers(write):
    source = write({"labels": [[name, [0.0, 1.0] if index else [1, 0]] for index, name in enumerate(NAMES)]})
    assert source.labels.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([[name, [0.5, 0.1]] for name in NAMES], "vectors of 2 numbers as labels, and the networks take class numbers"),
        ([[name, 1] for name in NAMES[1:]], "has no label for 1 of 4 images"),
        (None, "says that the set has no labels"),
    ],
)
def test_other_labels_are_refused_for_conditional_training_alone(write, labels, why):
    source = write({"labels": labels})
    assert source.read(8, 3).labels is None
    with pytest.raises(UserError, match=f"dataset.json.* {why}"):
        classes_of(source)


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[" * 100_000, {"labels": 3}, {"labels": [["a", 1, 2]]}, {"labels": [[1, "a"]]}]
)
def test_a_damaged_file_is_named(write, content):
    with pytest.raises(UserError, match=r"dataset\.json.*(is not valid JSON|must be a list of \[file, label\])"):
        write(content)


@pytest.mark.parametrize("content", [{"name": "mine"}, [1, 2]])
def test_another_json_of_that_name_changes_nothing(write, content):
    source = write(json.dumps(content).encode())
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.class_names == ("00000", "00001")
    assert source.notes(3) == (f"1 file in {source.name} not read as images: 1 .json",)
