"""Download of a file, once, by pooch.

A file is downloaded beside its place, checked by its MD5, and renamed. A broken download begins
again from the start; a kill leaves a temporary file there, which nothing uses.
"""
import logging
from dataclasses import dataclass
from pathlib import Path

from fastgan.errors import DiskError, UserError
from fastgan.files import open_to_all
from fastgan.progress import DownloadBar

_RETRIES = 2
_CHUNK_BYTES = 1 << 18
# A server must not say that the archive is a page in gzip, which requests would unpack
_HEADERS = {"User-Agent": "fastgan", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web and the MD5 of its bytes, in hexadecimal."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


def fetch(remote: RemoteFile, folder: Path, progress: bool = False) -> Path:
    """Return the path of the file in `folder`; download it unless it is there already.

    Several processes may fetch one file at once: each downloads all of it, and the last one stays.
    Raises UserError without a network and for a file with another MD5, DiskError when the disk
    refuses.
    """
    import pooch  # here: it takes as long as numpy, and most runs download nothing

    path = folder / remote.name
    try:
        if not path.exists():
            _download(remote, path, progress)
            return path
        is_right = pooch.file_hash(path, "md5") == remote.md5
    except OSError as error:  # of the network there is none left here
        raise DiskError(f"cannot read or write {path}: {getattr(_root(error), 'strerror', None) or error}") from error
    if not is_right:
        raise UserError(
            f"{path} is not the file that was published (its MD5 is not {remote.md5}): delete it, and it will be "
            "downloaded again"
        )
    return path


def _download(remote: RemoteFile, path: Path, progress: bool) -> None:
    import pooch
    from requests import RequestException

    pooch.get_logger().setLevel(logging.WARNING)  # the bar says what is downloaded
    files = pooch.create(path.parent, "", registry={path.name: f"md5:{remote.md5}"}, urls={path.name: remote.url},
                         retry_if_failed=_RETRIES)  # fmt: skip
    try:
        with DownloadBar(f"downloading {path.name}", progress) as bar:
            files.fetch(path.name, downloader=pooch.HTTPDownloader(bar, _CHUNK_BYTES, headers=_HEADERS))
    except RequestException as error:  # which is an OSError, and sometimes a ValueError
        answer = error.response
        reason = _root(error) if answer is None else f"the server answered {answer.status_code} {answer.reason}"
        raise UserError(f"cannot download {remote.url} ({reason}): try again later, or put the files of the set into "
                        f"{path.parent} by hand; the set fashion-mnist-10k needs no network") from error
    except ValueError as error:
        raise UserError(f"{remote.url} sent a file whose MD5 is not {remote.md5}: try again later, or put the right "
                        f"file into {path.parent} by hand") from error
    open_to_all(path)


def _root(error: BaseException) -> BaseException:
    """Return what the error came from first; the libraries in between add their own names."""
    while error.__context__ is not None:
        error = error.__context__
    return error
