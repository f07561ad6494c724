"""A csv of file and label beside the images that it names."""
import csv
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from fastgan.data.source import digest, file_facts
from fastgan.data.sources.folder import FileSource, files_below, is_image_name, read_file
from fastgan.data.sources.records.labels import Labels, numbered
from fastgan.errors import UserError

CSV_SUFFIXES = (".csv", ".tsv")
_FILE_NAMES = ("file", "filename", "file_name", "filepath", "path", "image", "image_id", "img", "name", "id")
_LABEL_NAMES = ("label", "labels", "class", "class_id", "category", "cls", "target", "y")
_MOST_BYTES, _MOST_ROWS = 1 << 30, 20_000_000


class CsvSource(FileSource):
    """The images that a csv names, in its order, with their labels.

    The columns are found by their names in the first row (file, image, path and so on; label,
    class and so on), or are the first and the second of a csv without such a row. A file is named
    by its path below the folder of the csv, or by its own name where that is the only one, with or
    without its suffix; nothing outside of the folder is read.
    """

    def __init__(self, path: Path):
        self._path = path
        rows = _rows(path)
        found = _Found(path.parent)
        file_column, label_column, why_none, rows = _columns(rows, found, path)
        members = found.all_of([_cell(row, file_column) for row in rows], path)
        num_other = len(found.files - set(members))
        super().__init__(
            path.name,
            str(path.parent),
            members,
            partial(read_file, str(path.parent)),
            {"images without a row": num_other} if num_other else None,
        )
        labels = Labels(None, why_none=why_none)
        if label_column is not None:
            labels = numbered([_cell(row, label_column) for row in rows], str(path))
        self.labels, self.class_names, self.why_no_labels = labels.labels, labels.class_names, labels.why_none

    def fingerprint(self) -> str:
        return digest([file_facts(self._path), [(str(one), file_facts(self.where(one))) for one in self.members]])


class _Found:
    """The image files below a folder, by what a csv may call them."""

    def __init__(self, folder: Path):
        self.folder, self.files = folder, {file for file in files_below(folder) if is_image_name(file)}
        self._by_text: dict[str, PurePosixPath | None] = {}  # None: several have this name
        for of_file in (lambda file: file.stem, lambda file: file.name, lambda file: str(file.with_suffix(""))):
            self._add(of_file)
        self._by_text |= {str(file): file for file in self.files}

    def _add(self, of_file) -> None:
        names: dict[str, PurePosixPath | None] = {}
        for file in self.files:
            name = of_file(file)
            names[name] = None if name in names else file
        self._by_text |= names

    def __contains__(self, text: str) -> bool:
        return self._by_text.get(_normal(text)) is not None

    def all_of(self, texts: Sequence[str], path: Path) -> list[PurePosixPath]:
        """Return the files that these texts name; raise UserError where some name none, or several."""
        missing = [text for text in texts if text not in self]
        if missing:
            raise UserError(
                f"{path} names {len(missing)} of {len(texts)} files that are not below {self.folder}, or are there "
                f"several times; the first is {missing[0]!r}: mend the csv, or put it beside the folder of its images"
            )
        return [self._by_text[_normal(text)] for text in texts]


def _normal(text: str) -> str:
    return str(PurePosixPath(text.strip().replace("\\", "/")))


def _rows(path: Path) -> list[list[str]]:
    """Return all rows that are not empty; the text before the first line's end gives the separator."""
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} is larger than the {_MOST_BYTES} bytes that are taken for safe: leave out columns")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline(1 << 16)
            file.seek(0)
            separator = max("\t;,", key=first.count)
            rows = [row for row in csv.reader(file, delimiter=separator) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a csv in UTF-8 ({error}): save it again") from error
    if not 0 < len(rows) <= _MOST_ROWS:
        raise UserError(f"{path} has {len(rows)} rows: give one for each image, at most {_MOST_ROWS}")
    return rows


def _columns(rows: list[list[str]], found: _Found, path: Path) -> tuple[int, int | None, str, list[list[str]]]:
    """Return (column of files, column of labels or None, why there is none, rows of images)."""
    first = [cell.strip().lower() for cell in rows[0]]
    if rows[0][0] in found:  # no header
        return 0, 1 if len(first) > 1 else None, "", rows
    file_column = _named(first, _FILE_NAMES)
    label_column = _named(first, _LABEL_NAMES)
    if len(first) <= 2 and file_column is None:
        file_column = 0 if label_column != 0 else len(first) - 1
    if len(first) == 2 and label_column is None:
        label_column = 1 - file_column
    listed = ", ".join(rows[0])
    if file_column is None:
        raise UserError(f"{path} has the columns {listed}, and which names the files is unclear: call it 'file'")
    why = "" if len(first) == 1 or label_column is not None else (
        f"{path} has the columns {listed}, and which is the label is unclear: call it 'label'")  # fmt: skip
    return file_column, label_column, why, rows[1:]


def _named(first: Sequence[str], names: Iterable[str]) -> int | None:
    return next((first.index(name) for name in names if name in first), None)


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""
