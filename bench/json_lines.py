"""Rows in files of JSON lines that survive a kill.

Every line is written whole, and a torn one is not read.
"""
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from fastgan.errors import DiskError, UserError


def append_rows(path: Path, rows: Sequence) -> None:
    """Add rows, dataclasses, to a file of JSON lines. Raises DiskError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows))
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error


def read_rows(path: Path, kind: type) -> list[dict]:
    """Return the rows of a file of JSON lines, oldest first.

    kind: their class; columns with a default may lack.

    Raises UserError for a missing file or a line that is no such row.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return [_row(line, f"{path}, line {number}", kind) for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, where: str, kind: type) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg}") from None
    missing = {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if not (isinstance(row, dict) and field.name in row)
    }
    needed = sorted(name for name, default in missing.items() if default is dataclasses.MISSING)
    if needed:
        raise UserError(f"{where} is no row of bench: it lacks {', '.join(needed)}")
    return row | missing


def append_row(path: Path, row: dict) -> None:
    """Append one row, which is in the file when this returns. Raises DiskError."""
    append_text(path, json.dumps(row) + "\n")


def append_text(path: Path, text: str) -> None:
    """Append text to a file. Raises DiskError."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error


def rows_since(path: Path, start: int = 0) -> list[dict]:
    """Return the rows from byte `start` on, without a row that a kill has torn."""
    if not path.exists():
        return []
    lines = path.read_bytes()[start:].split(b"\n")[:-1]  # the last part is empty, or torn
    return [json.loads(line) for line in lines if line.strip()]


class Tail:
    """Reader of the lines that are added to a file, whole lines only, each once."""

    def __init__(self, path: Path):
        self.path, self._read = path, 0

    def lines(self) -> str:
        """Return the lines that are new since the last call; nothing where there is no file."""
        if not self.path.exists():
            return ""
        with open(self.path, "rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace")
