"""The sets that are known by name, as sources.

One is embedded; the others are downloaded before the first reading.
"""
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastgan.data.source import Source
from fastgan.data.sources.array_files import idx_source, npz_source, read_rows
from fastgan.data.sources.arrays import ArraySource, Blocks
from fastgan.data.sources.download import fetch
from fastgan.data.sources.known_sets import KNOWN_SETS, KnownSet
from fastgan.files import cache_folder

_ASSETS = Path(__file__).parents[2] / "assets"


def known_source(name: str) -> Source:
    """Return the source of a name in KNOWN_SETS; nothing is downloaded before it is read."""
    known = KNOWN_SETS[name]
    if known.files:
        return DownloadedSource(name, known)
    source = npz_source(_ASSETS / f"{name.replace('-', '_')}.npz", known.class_names)
    source.name = name
    return source


class DownloadedSource(ArraySource):
    """A known set in the cache folder; `prepare` fetches the missing files."""

    def __init__(self, name: str, known: KnownSet):
        self._files = known.files
        self._folder = cache_folder() / "data" / name
        super().__init__(name, name, known.shape, np.dtype(np.uint8), self._read_blocks, known.class_names)

    def prepare(self, progress: bool) -> None:
        for remote in self._files:
            fetch(remote, self._folder, progress)

    def _read_blocks(self) -> Blocks:
        path = self._folder / self._files[0].name
        return cifar10_blocks(path) if path.name.endswith(".tar.gz") else idx_source(path).blocks()


def cifar10_blocks(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (images uint8 [n, 3, 32, 32], labels [n]) of the files in cifar-10-binary.tar.gz.

    Only the training files are read. An image takes 3073 bytes, the label first.
    """
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if "data_batch" not in member.name:
                continue
            stream = archive.extractfile(member)
            for rows in read_rows(stream, (member.size // 3073, 3073), np.dtype(np.uint8), path):
                yield rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]
