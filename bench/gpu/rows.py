"""Rows as lines of JSON that survive a kill.

Every line is written whole, and a torn one is not read.
"""
import json
from pathlib import Path

from fastgan.errors import DiskError


def append(path: Path, row: dict) -> None:
    """Append one row, which is in the file when this returns. Raises DiskError."""
    append_text(path, json.dumps(row) + "\n")


def append_text(path: Path, text: str) -> None:
    """Append text to a file. Raises DiskError."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error


def since(path: Path, start: int = 0) -> list[dict]:
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
