"""dataset.json, the labels that StyleGAN's dataset_tool writes beside the images.

It holds {"labels": [[file, label], ...]} or {"labels": null}; a label is a class number, or a
vector.
"""
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from fastgan.data.sources.records.labels import Labels, numbered
from fastgan.errors import UserError

LABELS_NAME = "dataset.json"


def read_labels(content: bytes, where: str, path: PurePosixPath, members: Sequence[PurePosixPath]) -> Labels | None:
    """Return the labels of `members`, or None for a file of another meaning.

    where: its name in errors. path: of the file; the files that it names lie below its folder.
    Raises UserError for a file that is damaged.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error}): write it anew, or remove it") from error
    if not isinstance(values, dict) or "labels" not in values:
        return None
    if values["labels"] is None:
        return Labels(None, why_none=f"{where} says that the set has no labels")
    by_file = _by_file(values["labels"], where)
    return numbered([by_file.get(_below(path.parent, member)) for member in members], where)


def _by_file(pairs: object, where: str) -> dict[str, object]:
    is_list = isinstance(pairs, list)
    if not is_list or not all(isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is str for pair in pairs):
        raise UserError(f'{where}: "labels" must be a list of [file, label]: write it anew, or remove it')
    return {file.replace("\\", "/"): label for file, label in pairs}


def _below(folder: PurePosixPath, member: PurePosixPath) -> str | None:
    return member.relative_to(folder).as_posix() if member.is_relative_to(folder) else None
