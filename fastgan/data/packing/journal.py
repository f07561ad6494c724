"""The two files of an interrupted or running packing, beside OUT.

OUT.part grows image by image; OUT.part.journal has a line for each finished block. A kill leaves
both, and the next try continues behind the last block whose images have the checksum in the
journal: nothing needs to be flushed to the disk on the way, not even for a power cut. OUT.part has
no header before it is whole, so it is never taken for a packed file.
"""
import dataclasses
import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastgan.data.packing.decoders import Block
from fastgan.data.sources.packed_file import IMAGES_AT, Contents, seal, write_all
from fastgan.errors import DiskError, UserError

_VERSION = 1  # of the journal: a packing begun with another version is begun anew


@dataclass(frozen=True)
class Finished:
    """A line of the journal: a block that is in OUT.part.

    num_members: images of the source that went in; num_images: that were good.
    """

    num_members: int
    num_images: int
    crc32: int
    labels: list[int] | None
    skipped: list[str]


class PackWork:
    """OUT.part and its journal, locked; used as a context manager.

    shape: of one image, [R, R, C]. identity: the facts that must be the same for an interrupted
    packing to be continued; None = never continue it. blocks: those that are finished. was_changed:
    True when an earlier try left files of another identity, which were thrown away. Raises
    UserError where OUT exists already or is being packed, DiskError when the disk refuses.
    """

    def __init__(self, out: Path, shape: tuple[int, int, int], identity: str | None):
        self.out, self._image_bytes, self._identity = out, math.prod(shape), identity
        self._part_path, self._journal_path = Path(f"{out}.part"), Path(f"{out}.part.journal")
        self.blocks: list[Finished] = []
        self.was_changed = False

    def __enter__(self) -> "PackWork":
        self._refuse_existing()
        with self._disk():
            self.out.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as opening:
                self._journal = opening.enter_context(_open_or_create(self._journal_path))
                self._lock()
                self._part = opening.enter_context(_open_or_create(self._part_path))
                self._resume()
                self._opened = opening.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()  # and with the journal its lock
        if not self.blocks:
            self._discard()

    @property
    def num_members(self) -> int:
        """The number of images of the source that went into the finished blocks."""
        return sum(block.num_members for block in self.blocks)

    @property
    def num_images(self) -> int:
        """The number of images in OUT.part."""
        return sum(block.num_images for block in self.blocks)

    @property
    def skipped(self) -> list[str]:
        """The files that were left out so far, each with its reason."""
        return [entry for block in self.blocks for entry in block.skipped]

    def append(self, block: Block) -> None:
        """Write a block behind the others, then its line."""
        images = np.ascontiguousarray(block.images)
        labels = None if block.labels is None else block.labels.tolist()
        skipped = [f"{name}: {reason}" for name, reason in block.bad]
        finished = Finished(block.num_members, len(images), zlib.crc32(images), labels, skipped)
        with self._disk():
            write_all(self._part, images.reshape(-1).data)
            write_all(self._journal, _line(dataclasses.asdict(finished)))
        self.blocks.append(finished)

    def finish(self, contents: Contents) -> None:
        """Write everything else around the images, and give the whole file its name."""
        with self._disk():
            seal(self._part, contents)
            self._part.close()
            self._refuse_existing()
            os.replace(self._part_path, self.out)
        self._opened.close()  # only now: the next process with the lock sees that OUT exists
        self._discard()

    def _discard(self) -> None:
        with self._disk():
            self._part_path.unlink(missing_ok=True)
            self._journal_path.unlink(missing_ok=True)

    def _refuse_existing(self) -> None:
        if os.path.lexists(self.out):
            raise UserError(
                f"{self.out} exists, and fastgan pack never overwrites: remove it first, or choose another name"
            )

    def _lock(self) -> None:
        if not _try_lock(self._journal):
            raise UserError(f"{self.out} is being packed by another process: wait until it is done")
        # The process that held the lock when we opened the journal may have finished since.
        if os.path.lexists(self.out):
            self._journal_path.unlink(missing_ok=True)
        self._refuse_existing()
        if os.fstat(self._journal.fileno()).st_nlink == 0:
            raise UserError(f"{self.out} was being packed by another process until now: try again")

    def _resume(self) -> None:
        first_line = _line({"version": _VERSION, "identity": self._identity})
        lines = self._journal.read().splitlines(keepends=True)
        if self._identity is not None and lines[:1] == [first_line]:
            self.blocks = list(self._intact(lines[1:]))
            self._journal.truncate(sum(map(len, lines[:1 + len(self.blocks)])))
            self._journal.seek(0, os.SEEK_END)
        else:
            self.was_changed = len(lines) > 1
            self._journal.truncate(0)
            self._journal.seek(0)
            write_all(self._journal, first_line)
        self._part.truncate(IMAGES_AT + self._image_bytes * self.num_images)
        self._part.seek(0, os.SEEK_END)

    def _intact(self, lines: list[bytes]) -> Iterator[Finished]:
        """Return the blocks up to the first that is damaged.

        A block is damaged when OUT.part differs from its line, or when its line was cut short.
        """
        self._part.seek(IMAGES_AT)
        for line in lines:
            encoded, _, crc32 = line.rpartition(b" ")
            if crc32 != b"%08x\n" % zlib.crc32(encoded):
                return
            finished = Finished(**json.loads(encoded))
            images = self._part.read(finished.num_images * self._image_bytes)
            if len(images) < finished.num_images * self._image_bytes or zlib.crc32(images) != finished.crc32:
                return
            yield finished

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(
                f"cannot write {self.out}: {error.strerror or error}; fix this, and the same command resumes from here"
            ) from error


def _line(values: dict) -> bytes:
    """Return JSON, then its CRC-32."""
    encoded = json.dumps(values).encode()
    return b"%b %08x\n" % (encoded, zlib.crc32(encoded))


def _open_or_create(path: Path) -> BinaryIO:
    """Open a file for reading and writing, unbuffered; create it where it is missing.

    Unbuffered, since closing it after a full disk must not try to write again.
    """
    return open(path, "rb+", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666))


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file for as long as it is open; return False where another process has the lock.

    Windows has no such lock: there the last process wins.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
