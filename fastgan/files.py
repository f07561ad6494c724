"""Atomic writing of files: a kill at any moment leaves either the old file or the new one."""
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastgan.errors import DiskError


def write_beside_and_rename(path: str | os.PathLike, write: Callable[[Path], None]) -> None:
    """Write a file beside `path`, flush it to the disk, then rename it to `path`.

    `write` is called with a temporary path in the folder of `path`. The temporary name keeps the
    suffix of `path`, since image writers choose their format by it. Raises DiskError, naming
    `path`, when the disk is full, read-only or forbids it; the temporary file is removed.
    """
    path = Path(path)
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        beside = Path(name)
        write(beside)
        _flush_to_disk(beside)
        open_to_all(beside)
        os.replace(beside, path)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8), by writing beside it and renaming."""
    write_beside_and_rename(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def open_to_all(path: Path) -> None:
    """Give a file that began as a temporary one, which is 0600, what open() would have given."""
    os.chmod(path, 0o666 & ~_current_umask())


def cache_folder() -> Path:
    """Return the user's cache folder for downloads and compiled code.

    It is $FASTGAN_CACHE, else $XDG_CACHE_HOME/fastgan, else ~/.cache/fastgan. A variable that is
    set but empty counts as not set.
    """
    own = os.environ.get("FASTGAN_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastgan"


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
