"""Parquet and Arrow files whose rows hold encoded images: those of the datasets library and others.

They need pyarrow. Nothing is unpickled, and no path in a row is followed.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.data.encoded import Encoded, EncodedSource
from fastgan.data.images import BadImage, check_file_size
from fastgan.data.source import digest, file_facts
from fastgan.data.sources.records.labels import Labels, numbered
from fastgan.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE_NAMES = ("image", "img", "images", "pixel_values", "jpg", "png", "bytes", "data")
_LABEL_NAMES = ("label", "labels", "class", "class_id", "cls", "target", "y", "fine_label")
_MOST_ROWS = 1 << 31
_BATCH = 8  # rows in memory at once: their images may be large
_SHARD = re.compile(r"(.+)-\d+-of-\d+$")


def parquet_source(origin: Path, files: Sequence[Path], beside: Mapping[str, int] | None = None) -> ParquetSource:
    """Return the images of a file, or of all files of a folder; of several splits, those of train.

    beside: the number of other files of each kind in the folder.
    """
    by_split = {}
    for path in files:
        if not path.name.startswith("cache-"):  # written by the datasets library for its own use
            by_split.setdefault(_split(path, origin), []).append(path)
    chosen = by_split.get("train", [path for paths in by_split.values() for path in paths])
    splits = sorted(by_split.keys() - {"train"}) if "train" in by_split else []
    return ParquetSource(origin, chosen, splits, beside)


class ParquetSource(EncodedSource):
    """The rows of parquet or Arrow files.

    The images are the column that holds bytes, alone or in the struct of the datasets library; of
    several, the one with a usual name. The labels are numbers or texts in a column with a usual
    name. other_splits: names of those that are not read. Raises UserError without pyarrow, and for
    files that are damaged or hold no images.
    """

    remedy = "; leave such images out with skip_bad"

    def __init__(
        self, origin: Path, files: Sequence[Path], other_splits: Sequence[str], beside: Mapping[str, int] | None
    ):
        self._tables = [_Table(path) for path in files]
        if not self._tables:
            raise UserError(f"{origin} holds no parquet or Arrow file of images")
        schema = self._tables[0].schema
        for table in self._tables:
            if table.names != self._tables[0].names:
                raise UserError(f"{table.path} has other columns than {self._tables[0].path}: give one set at a time")
        self._image = _image_column(schema, self._tables[0].path)
        self._label = next((name for name in _LABEL_NAMES if name in schema.names), None)
        self._other_splits = other_splits
        super().__init__(origin.resolve().name, str(origin), sum(table.num_rows for table in self._tables), beside)
        found = self._find_labels(schema)
        self.labels, self.why_no_labels = found.labels, found.why_none
        self.class_names = _declared_names(schema, self._label) or found.class_names

    def encoded(self) -> Iterator[Encoded]:
        for table in self._tables:
            for row, value in enumerate(table.values(self._image)):
                yield Encoded(f"row {row} of {table.path}", partial(_bytes_of, value))

    def _find_labels(self, schema: pa.Schema) -> Labels:
        if self._label is None:
            listed = ", ".join(schema.names)
            return Labels(None, why_none=f"{self.origin} has the columns {listed}, and none is called 'label'")
        return numbered([label for table in self._tables for label in table.values(self._label)], self.origin)

    def notes(self, img_channels: int) -> tuple[str, ...]:
        notes = super().notes(img_channels)
        if self._other_splits:
            notes = (f"the split train of {self.name} is read, and not {', '.join(self._other_splits)}", *notes)
        return notes

    def fingerprint(self) -> str:
        return digest([[str(table.path.resolve()), file_facts(table.path)] for table in self._tables])


class _Table:
    """One parquet or Arrow file, opened anew for every pass."""

    def __init__(self, path: Path):
        self.path = path
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise UserError(
                f"{path} needs pyarrow to be read: install it with pip install 'fastgan[parquet]'"
            ) from error
        self._arrow, self._errors = pyarrow, (pyarrow.ArrowException, OSError, ValueError)
        self._is_parquet = self._starts_with(b"PAR1")
        try:
            self.schema, self.num_rows = self._facts()
            self.names = self.schema.names  # raises where they are no text
        except self._errors as error:
            raise self._damaged(error) from error
        if self.num_rows > _MOST_ROWS:
            raise UserError(f"{path} claims {self.num_rows} rows, more than are taken for safe: split it")

    def values(self, column: str) -> Iterator:
        """Yield the values of a column as Python has them."""
        try:
            for batch in self._batches(column):
                yield from batch.column(column).to_pylist()
        except self._errors as error:
            raise self._damaged(error) from error

    def _facts(self) -> tuple[pa.Schema, int]:
        if self._is_parquet:
            with self._arrow.parquet.ParquetFile(self.path) as file:
                return file.schema_arrow, file.metadata.num_rows
        with self._arrow.memory_map(str(self.path)) as mapped:
            batches = list(self._stream(mapped))  # mapped, not read
            if not batches:
                raise ValueError("it holds no rows")
            return batches[0].schema, sum(batch.num_rows for batch in batches)

    def _batches(self, column: str) -> Iterator[pa.RecordBatch]:
        if self._is_parquet:
            with self._arrow.parquet.ParquetFile(self.path) as file:
                yield from file.iter_batches(_BATCH, columns=[column])
            return
        with self._arrow.memory_map(str(self.path)) as mapped:
            for batch in self._stream(mapped):
                for start in range(0, batch.num_rows, _BATCH):
                    yield batch.select([column]).slice(start, _BATCH)

    def _stream(self, mapped) -> Iterator[pa.RecordBatch]:
        """Yield the batches of an Arrow file or stream, each checked: Arrow aborts on a wrong one."""
        if self._starts_with(b"ARROW1"):
            file = self._arrow.ipc.open_file(mapped)
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            batches = self._arrow.ipc.open_stream(mapped)
        for batch in batches:
            if batch.num_rows < 0:
                raise ValueError(f"a batch claims {batch.num_rows} rows")
            batch.validate(full=True)
            yield batch

    def _starts_with(self, magic: bytes) -> bool:
        with open(self.path, "rb") as file:
            return file.read(len(magic)) == magic

    def _damaged(self, error: Exception) -> UserError:
        first = str(error).split("\n")[0]
        return UserError(f"{self.path} cannot be read ({first}): copy or download it again")


def _split(path: Path, origin: Path) -> str:
    """Return the name of the split of a file: train-00000-of-00002.parquet, or a folder train."""
    shard = _SHARD.match(path.stem)
    if shard and shard[1] != "data":
        return shard[1]
    return path.parent.name if path.parent != origin and path != origin else ""


def _image_column(schema: pa.Schema, path: Path) -> str:
    names = [field.name for field in schema if _holds_bytes(field.type)]
    name = next((name for name in _IMAGE_NAMES if name in names), names[0] if len(names) == 1 else None)
    if name is None:
        listed = ", ".join(schema.names)
        raise UserError(f"{path} has the columns {listed}, and which holds the images is unclear: call one of their "
                        "bytes 'image'")
    return name


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _bytes_of(value: bytes | dict | None) -> bytes:
    data = value["bytes"] if isinstance(value, dict) else value
    if data is None:
        raise BadImage("holds no bytes, at most the path of a file, which is not followed")
    check_file_size(len(data))
    return data


def _declared_names(schema: pa.Schema, label: str | None) -> tuple[str, ...] | None:
    """Return the class names that the datasets library keeps beside the columns, or None."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    is_named = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if is_named else None

