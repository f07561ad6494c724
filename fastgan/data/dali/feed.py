"""Batches decoded by DALI from encoded files as they are needed.

For sets that fit neither in device nor in host memory, and for augmentation at full resolution.
"""
import atexit
from collections.abc import Iterator
from itertools import count

import numpy as np
import torch

from fastgan.data.dali.decoder import decoded_blocks
from fastgan.data.dali.files import EncodedFiles
from fastgan.data.dali.pipeline import Chunk, chunk_size, decode, import_dali, num_usable_cpus, refusing
from fastgan.data.feeds.feed import Batch, check_labels
from fastgan.data.feeds.order import EndlessOrder, check_batch_size
from fastgan.data.feeds.ring import MAX_STEPS, RingFeed
from fastgan.data.images import BadImage
from fastgan.data.source import Source, check_num_usable
from fastgan.data.sources.folder import FileSource
from fastgan.errors import UserError
from fastgan.progress import progress_bar


class DaliFeed(RingFeed):
    """Batches decoded from the image files of a folder or a zip.

    The order is that of all feeds, given to DALI file by file: no reader that shuffles, hence no
    LastBatchPolicy (batches follow the epochs without a gap) and no state inside DALI: the image at
    number `nimg` of the run, its random square included, follows from the seed and `nimg` alone.
    random_crop: see EncodedFiles. num_threads: of DALI's; None = one a usable core. progress: a bar
    while all files are tested. labels: int64 [source.num_images], the class of each file, bad ones
    included, which `read` then gives with the images. rows: int64 [num_usable], the numbers of the
    files that are shown. On 2 CPU cores without a GPU: 1.9 to 2.4 times as many JPEGs of 64x64 a
    second as a torch DataLoader that decodes with Pillow in as many workers, 1 to 1.2 times as many
    PNGs (`fastgan bench loader`). skip_bad: test all files first, leave out those that cannot be
    used and list them in `skipped` ("cats/7.png: is cut short"). Without it the first such file is
    a UserError when its turn comes. Files cut short are bad, though decoders could fill them up:
    Pillow refuses them too. Raises UserError for a source that is not of image files, without DALI,
    without the GPU that `device` names, for fewer than two usable files.
    """

    def __init__(
        self,
        source: Source,
        img_resolution: int,
        img_channels: int,
        batch_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        skip_bad: bool = False,
        random_crop: float = 1.0,
        progress: bool = False,
        num_threads: int | None = None,
        max_steps: int = MAX_STEPS,
        threaded: bool | None = None,
        labels: torch.Tensor | None = None,
    ):
        if not isinstance(source, FileSource):
            raise UserError(
                f"{source.origin} holds no image files for DALI to decode: give a folder or a zip, or choose another "
                "data.backend"
            )
        check_labels(labels, source.num_images)
        import_dali(torch.device(device))
        self._files = EncodedFiles(source, img_resolution, img_channels, random_crop)
        self._num_threads = num_threads or num_usable_cpus()
        kept, self.skipped = (
            _usable(self._files, torch.device(device), self._num_threads, progress) if skip_bad else (None, ())
        )
        self.rows = np.arange(source.num_images) if kept is None else kept
        check_batch_size(batch_size, len(self.rows))
        super().__init__(
            (img_resolution, img_resolution, img_channels), batch_size, device, max_steps, threaded, labels is not None
        )
        self._endless, self._seed = EndlessOrder(len(self.rows), seed), seed
        self._labels = None if labels is None else labels[torch.from_numpy(self.rows)]
        self._decoded: Iterator[torch.Tensor] = iter(())
        self._decoded_to: int | None = None  # the image number with which _decoded goes on
        # Registered after DALI's own, so called before: the thread ends, then its decoder
        atexit.register(self._finalizer)
        self.seek(0)

    def close(self) -> None:
        super().close()
        atexit.unregister(self._finalizer)
        self._decoded = iter(())  # ends DALI's pipeline and the threads that read ahead

    def _fill(self, target: Batch, slot: int, nimg: int) -> None:
        if nimg != self._decoded_to:
            chunks = _chunks(self._endless, self.rows, self._seed, self.batch_size, chunk_size(self.device), nimg)
            self._decoded = decode(self._files, chunks, self.device, self._num_threads, refusing(self._files))
        self._decoded_to = None  # unless all goes well
        for part in target.img.split(chunk_size(self.device)):
            part.copy_(next(self._decoded))  # at once: on CUDA it is DALI's memory
        self._decoded_to = nimg + self.batch_size
        if self._labels is not None:
            gathered = self._labels[self._endless.rows(nimg, self.batch_size)]
            # From pageable memory, which CUDA is done with when this returns
            target.labels.copy_(gathered, non_blocking=True)


def _chunks(
    endless: EndlessOrder, rows: np.ndarray, seed: int, batch_size: int, size: int, nimg: int
) -> Iterator[Chunk]:
    """Yield batch after batch from image number `nimg` on, each in parts of at most `size`.

    rows: the numbers of the usable files.
    """
    for start in count(nimg, batch_size):
        chosen = rows[endless.rows(start, batch_size).numpy()]
        uniform = uniform_numbers(seed, start, batch_size)
        for first in range(0, batch_size, size):
            yield Chunk(chosen[first:first + size], uniform[first:first + size])


def uniform_numbers(seed: int, nimg: int, num: int) -> np.ndarray:
    """Return float64 [num, 3] in [0, 1): three numbers for each of the images from `nimg` on.

    The images are numbers nimg to nimg + num - 1 of the run. The result does not depend on other
    draws.
    """
    # Philox numbers its blocks of four 64-bit numbers: block `nimg` is that of image `nimg`.
    generator = np.random.Generator(np.random.Philox(key=seed % 2**128, counter=nimg))
    return generator.random((num, 4))[:, :3]


def _usable(
    files: EncodedFiles, device: torch.device, num_threads: int, progress: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (numbers of the files that can be used, the others with their reasons).

    Every file is decoded once.
    """
    source = files.source
    bad: dict[int, BadImage] = {}
    with progress_bar(f"trying out {source.name}", source.num_images, progress) as advance:
        for rows, _, bad_ones in decoded_blocks(files, device, num_threads, chunk_size(device)):
            bad |= bad_ones
            advance(len(rows))
    kept = np.array([row for row in range(source.num_images) if row not in bad], np.int64)
    skipped = tuple(f"{files.where(row)}: {bad[row]}" for row in sorted(bad))
    check_num_usable(source, len(kept), skipped)
    return kept, skipped
