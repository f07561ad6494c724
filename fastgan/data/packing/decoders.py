"""The decoders of `fastgan pack`: threads, or processes for many small files.

Processes decode the files of a folder or zip.
"""
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from fastgan.data.images import BadImage, fit
from fastgan.data.packing.decode_worker import RangeNeeded
from fastgan.data.source import Piece, Source, in_order, join_labels
from fastgan.data.sources.folder import FileSource
from fastgan.data.value_range import ValueRange
from fastgan.errors import UserError
from fastgan.processes import GRACE_S, Child, how_it_ended

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Target:
    """The shape of a decoded image: uint8 [img_resolution, img_resolution, img_channels]."""

    img_resolution: int
    img_channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.img_resolution, self.img_resolution, self.img_channels

    @property
    def block_size(self) -> int:
        """Return the number of images in one block: about a megabyte of them."""
        return max(1, _BLOCK_BYTES // (self.img_resolution * self.img_resolution * self.img_channels))


@dataclass(frozen=True)
class Block:
    """Consecutive images of a source, decoded.

    The bounds of blocks depend on the source and the target alone, never on the decoder.

    num_members: images of the source that went in. images: uint8 [number of good ones, R, R, C].
    labels: of the good ones, or None. bad: (name, reason) of each image that cannot be used.
    """

    num_members: int
    images: np.ndarray
    labels: np.ndarray | None
    bad: tuple[tuple[str, str], ...] = ()


# Yields the blocks of a source in order, from the one that begins with image number `start` (third
# argument) of the source.
Decoder = Callable[[Source, Target, int], Iterable[Block]]


# --- threads --------------------------------------------------------------------------------------


def in_threads(num_workers: int) -> Decoder:
    """Decode any source, in threads of this process."""
    def decode(source: Source, target: Target, start: int) -> Iterator[Block]:
        groups = _groups(source.pieces(), target.block_size, start)
        for _, block in in_order(groups, lambda pieces: _decode_pieces(source, pieces, target), num_workers):
            yield block.result()
    return decode


def _groups(pieces: Iterable[Piece], size: int, start: int) -> Iterator[list[Piece]]:
    """Yield groups of consecutive pieces, each of at least `size` images if there are enough.

    Images before number `start` are left out.
    """
    group, first, end = [], 0, 0
    for piece in pieces:
        group.append(piece)
        end += piece.num_images
        if end - first >= size:
            if first >= start:
                yield group
            group, first = [], end
    if group and first >= start:
        yield group


def _decode_pieces(source: Source, pieces: list[Piece], target: Target) -> Block:
    images, labels, bad = [np.empty((0, *target.shape), np.uint8)], [], []
    for piece in pieces:
        try:
            images.append(fit(piece.load(), *target.shape[1:]))
            labels.append(piece.labels)
        except BadImage as reason:
            bad.append((piece.where, str(reason)))
    return Block(
        sum(piece.num_images for piece in pieces), np.concatenate(images), join_labels(source, labels), tuple(bad)
    )


# --- processes ------------------------------------------------------------------------------------


def in_processes(num_workers: int) -> Decoder:
    """Decode the files of a folder or zip, in processes.

    They load neither torch nor the caller's main module.
    """
    def decode(source: FileSource, target: Target, start: int) -> Iterator[Block]:
        chunks = [
            range(first, min(first + target.block_size, source.num_images))
            for first in range(start, source.num_images, target.block_size)
        ]
        with ExitStack() as ending:
            idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
            for _ in range(min(num_workers, len(chunks))):
                process = ending.enter_context(_start())
                idle.put(_Worker(process, source, target))

            def work(chunk: range) -> Block:
                worker = idle.get()
                try:
                    return worker.decode(chunk)
                finally:
                    idle.put(worker)

            for _, block in in_order(chunks, work, num_workers):
                yield block.result()
    return decode


def _start() -> Child:
    # Not multiprocessing: that would run the caller's main module again, which in a script without
    # the usual guard starts everything anew.
    command = "import sys; sys.path[:] = sys.argv[1:]; from fastgan.data.packing.decode_worker import serve; serve()"
    # Otherwise numpy starts a thread for each core
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return Child([sys.executable, "-c", command, *sys.path], environment=environment, stdin=subprocess.PIPE,
                 stdout=subprocess.PIPE, stderr=None)  # fmt: skip


class _Worker:
    """One decoding process (fastgan/data/packing/decode_worker.py), asked over pipes."""

    def __init__(self, process: Child, source: FileSource, target: Target):
        self._process, self._source = process, source
        self._send((source.read_member, *target.shape[1:], Image.MAX_IMAGE_PIXELS))

    def decode(self, chunk: range) -> Block:
        """Return the block of these members; raise the error of the process here."""
        members = self._source.members[chunk.start:chunk.stop]
        answer = self._ask(members, self._source.known_range)
        if isinstance(answer, RangeNeeded):
            answer = self._ask(members, self._source.deep_range)
        if isinstance(answer, Exception):
            raise answer
        images, bad, self._source.traits[chunk.start:chunk.stop] = answer
        named = tuple((self._source.where(members[place]), reason) for place, reason in bad)
        return Block(len(members), images, self._labels(chunk, {place for place, _ in bad}), named)

    def _ask(self, members: Sequence[PurePosixPath], value_range: ValueRange | None):
        """Return the answer of the process, which may be an exception."""
        try:
            self._send((members, value_range))
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            first = self._source.where(members[0])
            code = self._process.wait(GRACE_S)
            how = "sent no image" if code is None else how_it_ended(code)
            raise UserError(f"the process that decoded {len(members)} files from {first} on {how}: if the memory was "
                            "full, use fewer --workers; the same command resumes from here") from error

    def _send(self, what: object) -> None:
        pickle.dump(what, self._process.stdin, protocol=5)
        self._process.stdin.flush()

    def _labels(self, chunk: range, bad: set[int]) -> np.ndarray | None:
        if self._source.labels is None:
            return None
        return np.array(
            [self._source.labels[number] for place, number in enumerate(chunk) if place not in bad], np.int64
        )
