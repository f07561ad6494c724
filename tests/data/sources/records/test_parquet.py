"""Parquet files, and folders of the datasets library."""
import io
import json
import sys

import numpy as np
import pytest
from image_files import encoded
from PIL import Image

from fastgan.data import classes_of, open_source
from fastgan.data.packing.pack import pack
from fastgan.errors import UserError


def grey(value: int) -> bytes:
    return encoded(Image.new("L", (8, 8), value))


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow")


@pytest.fixture
def table(arrow):
    """Return a function that makes a table as the datasets library has it."""
    def make(numbers=range(3), names=("ant", "cat"), **columns):
        images = [{"bytes": grey(number), "path": f"/nowhere/{number}.png"} for number in numbers]
        made = arrow.table({"image": images, "label": [number % 2 for number in numbers], **columns})
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return make


def write_parquet(path, table):
    import pyarrow.parquet

    path.parent.mkdir(exist_ok=True, parents=True)
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path


def write_arrow(path, table, stream=True):
    import pyarrow

    path.parent.mkdir(exist_ok=True, parents=True)
    new = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def values(source) -> list[int]:
    return source.read(8, 1).images[:, 0, 0, 0].tolist()


def test_a_file_with_declared_class_names(tmp_path, table):
    source = open_source(write_parquet(tmp_path / "a.parquet", table(range(20))))
    assert (source.name, source.num_images, source.native_resolution, source.native_channels) == (
        "a.parquet", 20, 8, 1)  # fmt: skip
    assert values(source) == list(range(20))
    assert source.labels.tolist() == [0, 1] * 10
    assert classes_of(source) == (2, ("ant", "cat"))
    assert source.notes(1) == ()


@pytest.mark.parametrize("write", [write_arrow, lambda path, table: write_arrow(path, table, stream=False)])
def test_a_folder_that_the_library_saved(tmp_path, table, write):
    for split, first in (("train", 0), ("test", 50)):
        for shard in range(2):
            numbers = range(first + 10 * shard, first + 10 * shard + 3)
            write(tmp_path / "set" / split / f"data-{shard:05}-of-00002.arrow", table(numbers))
        (tmp_path / "set" / split / "state.json").write_text("{}")
    write(tmp_path / "set" / "train" / "cache-1234.arrow", table(range(90, 93)))
    (tmp_path / "set" / "dataset_dict.json").write_text("{}")
    source = open_source(tmp_path / "set")
    assert values(source) == [0, 1, 2, 10, 11, 12]
    assert source.labels.tolist() == [0, 1, 0, 0, 1, 0]
    assert source.notes(1) == ("the split train of set is read, and not test",)
    assert open_source(tmp_path / "set" / "test").num_images == 6


def test_a_folder_of_parquet_shards_by_their_names(tmp_path, table):
    for split in ("train", "validation"):
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", table(range(len(split))))
    (tmp_path / "README.md").write_text("card")
    source = open_source(tmp_path)
    assert source.num_images == 5
    assert source.notes(1) == (
        f"the split train of {tmp_path.name} is read, and not validation",
        f"1 file in {tmp_path.name} not read as images: 1 .md",
    )


def test_bytes_without_a_struct_and_texts_for_labels(tmp_path, arrow):
    rows = {"png": [grey(1), grey(2), grey(3)], "class": ["dog", "ant", "dog"], "caption": ["a", "b", "c"]}
    source = open_source(write_parquet(tmp_path / "a.parquet", arrow.table(rows)))
    assert values(source) == [1, 2, 3]
    assert source.labels.tolist() == [1, 0, 1]
    assert classes_of(source) == (2, ("ant", "dog"))


def test_it_is_packed_and_bad_rows_are_named(tmp_path, arrow):
    rows = [{"bytes": grey(1), "path": None}, {"bytes": None, "path": "/etc/passwd"}, {"bytes": b"x", "path": None},
            {"bytes": grey(2), "path": None}]  # fmt: skip
    path = write_parquet(tmp_path / "a.parquet", arrow.table({"image": rows, "label": [0, 1, 2, 3]}))
    with pytest.raises(UserError, match=r"row 1 of .*a.parquet: holds no bytes, .* not followed; leave such images"):
        open_source(path).read(8, 1)
    packed = pack(open_source(path), tmp_path / "a.fgp", skip_bad=True)
    assert packed.shape == (2, 8, 8, 1)
    assert [entry.split(" of ")[0] for entry in packed.skipped] == ["row 1", "row 2"]
    assert open_source(tmp_path / "a.fgp").labels.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([0, -1, 1], "has the label -1"),
        ([0, None, 1], "has no label for 1 of 3"),
        ([0.5, 1.0, 2.0], "has labels that are neither"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_for_conditional_training_alone(tmp_path, arrow, labels, why):
    rows = {"image": [grey(1), grey(2), grey(3)], "label": labels}
    source = open_source(write_parquet(tmp_path / "a.parquet", arrow.table(rows)))
    assert source.read(8, 1).labels is None
    with pytest.raises(UserError, match=f"a.parquet {why}"):
        classes_of(source)


def test_columns_that_are_unclear_are_listed(tmp_path, arrow):
    for number, rows in enumerate(({"left": [b"a", b"b"], "right": [b"a", b"b"]}, {"text": ["a", "b"]})):
        path = write_parquet(tmp_path / f"{number}.parquet", arrow.table(rows))
        with pytest.raises(UserError, match=f"has the columns {', '.join(rows)}, and which holds the images"):
            open_source(path)
    unlabelled = open_source(write_parquet(tmp_path / "a.parquet", arrow.table({"image": [grey(1), grey(2)]})))
    with pytest.raises(UserError, match="has the columns image, and none is called 'label'"):
        classes_of(unlabelled)


def test_tables_of_different_columns_are_no_set(tmp_path, arrow, table):
    write_parquet(tmp_path / "a.parquet", table())
    write_parquet(tmp_path / "b.parquet", arrow.table({"image": [grey(1)]}))
    with pytest.raises(UserError, match=r"b\.parquet has other columns than .*a\.parquet"):
        open_source(tmp_path)


def test_damage_is_named(tmp_path, table):
    for write, name in ((write_parquet, "a.parquet"), (write_arrow, "b.arrow")):
        content = write(tmp_path / name, table(range(30))).read_bytes()
        assert values(open_source(tmp_path / name)) == list(range(30))
        for damaged in (content[:len(content) // 2], content[:8], content[:3000] + bytes(2000) + content[5000:]):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(UserError, match=name):
                open_source(tmp_path / name).read(8, 1)


def test_pyarrow_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100))
    for path in (tmp_path / "a.parquet", tmp_path):
        with pytest.raises(UserError, match=r"a\.parquet needs pyarrow .* pip install 'fastgan\[parquet\]'"):
            open_source(path)


def test_arrays_of_images_are_not_unpickled_from_it(tmp_path, arrow):
    rows = {"image": [io.BytesIO(np.zeros(4).dumps()).getvalue()] * 3}
    source = open_source(write_parquet(tmp_path / "a.parquet", arrow.table(rows)))
    with pytest.raises(UserError, match="is not an image of a known kind"):
        source.read(8, 1)
