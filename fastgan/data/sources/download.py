"""Download of a file, once.

A download continues after a break, is checked by its MD5, and is renamed into place when the file
is whole.
"""
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastgan.data.progress_bar import progress_bar
from fastgan.errors import DiskError, UserError

_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 30
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web and the MD5 of its bytes, in hexadecimal."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


class _Interrupted(Exception):
    """The network gave less than the whole file; the message is the reason."""


def fetch(remote: RemoteFile, folder: Path, progress: bool = False) -> Path:
    """Return the path of the file in `folder`; download it unless it is there already.

    After a break the part received is kept as NAME.part, and the next try or the next run continues
    it. Several processes may fetch one file at once: they write the same bytes to the same places.
    Raises UserError without a network and for a file with another MD5, DiskError when the disk
    refuses.
    """
    path = folder / remote.name
    with _disk(path):
        if not path.exists():
            _download(remote, path, progress)
        elif _md5_of_path(path) != remote.md5:
            raise UserError(
                f"{path} is not the file that was published (its MD5 is not {remote.md5}): delete it, and it will be "
                "downloaded again"
            )
    return path


def _download(remote: RemoteFile, path: Path, progress: bool) -> None:
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "rb+", opener=_create_if_missing) as file:
            _receive_all(remote, file, progress)
            is_right = _md5(file) == remote.md5
    except _Interrupted as reason:
        raise UserError(f"cannot download {remote.url} ({reason}): try again later, or put the files of the set into "
                        f"{path.parent} by hand; the set fashion-mnist-10k needs no network") from reason
    if not is_right:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{remote.url} sent a file whose MD5 is not {remote.md5}: try again later, or put the right file into "
            f"{path.parent} by hand"
        )
    _put_in_place(part, path)


def _put_in_place(part: Path, path: Path) -> None:
    try:
        os.replace(part, path)
    except FileNotFoundError:
        if not path.exists():  # it does when another process was quicker
            raise


def _receive_all(remote: RemoteFile, file: BinaryIO, progress: bool) -> None:
    """Continue the download for as long as every try brings something new."""
    while _md5(file) != remote.md5:
        size_before = _size(file)
        try:
            _receive(remote, file, progress)
            break
        except _Interrupted:
            if _size(file) <= size_before:
                raise


def _receive(remote: RemoteFile, file: BinaryIO, progress: bool) -> None:
    with _request(remote.url, file) as response:
        start = _first_byte(response, _size(file))
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with progress_bar(f"downloading {remote.name}", total, progress, in_bytes=True, done=start) as advance:
            end = _write(response, file, start, advance)
    if total is not None and end < total:
        raise _Interrupted(f"the connection broke after {end} of {total} bytes")
    file.truncate(end)  # the bytes behind it came from another file


def _request(url: str, file: BinaryIO) -> http.client.HTTPResponse:
    have = _size(file)
    headers = {"User-Agent": "fastgan"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE and have:  # as long as the whole file, yet not the file: start again
            file.truncate(0)
            return _request(url, file)
        raise _Interrupted(f"the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(getattr(error, "reason", error)) from error


def _first_byte(response: http.client.HTTPResponse, asked: int) -> int:
    if response.status != http.client.PARTIAL_CONTENT:
        return 0  # this server sends everything from the start
    if not response.headers.get("Content-Range", "").startswith(f"bytes {asked}-"):
        raise _Interrupted(f"the server was asked for the bytes from {asked} and sent others")
    return asked


def _write(response: http.client.HTTPResponse, file: BinaryIO, start: int, advance: Callable[[int], None]) -> int:
    """Write the received bytes to `file` from byte `start`; return the byte behind the last.

    The bytes that were received before a break are kept.
    """
    file.seek(start)
    try:
        while chunk := _read(response):
            file.write(chunk)
            advance(len(chunk))
    finally:
        file.flush()
        os.fsync(file.fileno())
    return file.tell()


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(error) from error


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _md5(file: BinaryIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5_of_path(path: Path) -> str:
    with open(path, "rb") as file:
        return _md5(file)


def _create_if_missing(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CREAT, 0o666)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn an OSError into a DiskError.

    Errors of the network are _Interrupted before they come here, so an OSError is the disk's.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot read or write {path}: {error.strerror or error}") from error
