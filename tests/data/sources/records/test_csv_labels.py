"""A csv of files and labels beside the images."""
import pytest
from image_files import encoded
from PIL import Image

from fastgan.data import classes_of, open_source
from fastgan.data.sources.records import csv_labels
from fastgan.errors import UserError


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a csv beside images/1.png to images/4.png."""
    (tmp_path / "images").mkdir()
    for number in range(1, 5):
        (tmp_path / "images" / f"{number}.png").write_bytes(encoded(Image.new("L", (8, 8), number)))

    def write(text: str | bytes, name: str = "labels.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_source(tmp_path / name)
    return write


@pytest.mark.parametrize(
    ("text", "class_names"),
    [
        ("file,label\n3.png,1\n1.png,0\n", None),
        ("\ufefffilename;class\n3.png;1\n1.png;0\n", None),
        ("label\timage\n1\timages/3.png\n0\timages\\1.png\n", None),
        ("images/3.png,1\nimages/1.png,0\n", None),
        ("id,breed\n3,dog\n1,cat\n", ("cat", "dog")),
        ('id,colour,label\n"3",red,dog\n"1",blue,cat\n\n', ("cat", "dog")),
    ],
)
def test_files_come_in_its_order_with_their_labels(opened, text, class_names):
    source = opened(text, "labels.tsv" if "\t" in text else "labels.csv")
    image_set = source.read(8, 1)
    assert image_set.images[:, 0, 0, 0].tolist() == [3, 1]
    assert image_set.labels.tolist() == [1, 0]
    assert source.class_names == class_names
    assert source.notes(1) == (f"2 files in {source.name} not read as images: 2 images without a row",)


def test_a_csv_of_files_alone_has_no_labels(opened):
    for text in ("file\n1\n2\n", "1.png\n2.png\n"):
        source = opened(text)
        assert source.read(8, 1).labels is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file,smiling,hat\n1,1,-1\n2,-1,1\n", "has the columns file, smiling, hat, and which is the label is unclear"),
        ("file,label\n1,0\n2,\n", "has no label for 1 of 2 images"),
        ("file,label\n1,0\n2\n", "has no label for 1 of 2 images"),
    ],
)
def test_labels_that_are_unclear_are_refused_for_conditional_training_alone(opened, text, why):
    source = opened(text)
    assert source.read(8, 1).labels is None
    with pytest.raises(UserError, match=f"labels.csv {why}"):
        classes_of(source)


@pytest.mark.parametrize("text", ["file,label\n1,0\n7.png,1\n../secret.png,0\n", "file,label\n1,0\n/x,1\nnone,2\n"])
def test_files_that_are_not_there_or_outside_are_named(opened, tmp_path, text):
    (tmp_path.parent / "secret.png").write_bytes(encoded(Image.new("L", (8, 8), 9)))
    with pytest.raises(UserError, match=r"labels\.csv names 2 of 3 files that are not below .*; the first is '"):
        opened(text)


def test_names_that_several_files_have_are_not_guessed(opened, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "1.png").write_bytes(encoded(Image.new("L", (8, 8), 9)))
    with pytest.raises(UserError, match="or are there several times; the first is '1'"):
        opened("file,label\n1,0\n2,1\n")
    assert opened("file,label\nmore/1.png,0\nimages/1,1\n").read(8, 1).images[:, 0, 0, 0].tolist() == [9, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n", "which names the files is unclear: call it 'file'"),
        ("", "has 0 rows"),
        (b"file,label\n\xff\xfe,1\n", "cannot be read as a csv in UTF-8"),
        ("file,label\n" + "x" * 200_000, "cannot be read as a csv"),
    ],
)
def test_other_texts_are_refused(opened, text, message):
    with pytest.raises(UserError, match=f"labels.csv.* {message}"):
        opened(text)


@pytest.mark.parametrize("limit", ["_MOST_BYTES", "_MOST_ROWS"])
def test_sizes_are_bounded(opened, monkeypatch, limit):
    monkeypatch.setattr(csv_labels, limit, 2)
    with pytest.raises(UserError, match=r"labels\.csv (is larger than|has 3 rows)"):
        opened("file,label\n1,0\n2,1\n")
