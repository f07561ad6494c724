"""Rows as lines of JSON that survive a kill: every line is written whole, and a torn one is taken off before the next is added."""
import json
from pathlib import Path

from fastgan.errors import DiskError


def append(path: Path, row: dict) -> None:
    """Add one row, in the file when this returns. Raises DiskError."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error


def size(path: Path) -> int:
    """Bytes in the file, 0 where there is none: where the rows of a stage begin."""
    return path.stat().st_size if path.exists() else 0


def since(path: Path, start: int = 0) -> list[dict]:
    """The rows from byte `start` on, without what a kill has torn."""
    if not path.exists():
        return []
    lines = path.read_bytes()[start:].split(b"\n")[:-1]  # the last part is empty, or torn
    return [json.loads(line) for line in lines if line.strip()]


def mend(path: Path) -> None:
    """Take a torn last line off."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with open(path, "rb+") as file:
                file.truncate(whole)
