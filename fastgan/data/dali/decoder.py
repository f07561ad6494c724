"""All files of a source decoded once by DALI.

Used by `fastgan.data.packing.pack.pack(..., decode=in_dali())`, and to try the files out before
training.
"""
from collections.abc import Iterator

import numpy as np
import torch

from fastgan.data.dali.files import EncodedFiles
from fastgan.data.dali.pipeline import Chunk, chunk_size, decode, import_dali, num_usable_cpus
from fastgan.data.images import BadImage
from fastgan.data.packing.decoders import Block, Decoder, Target
from fastgan.data.source import Source
from fastgan.data.sources.folder import FileSource
from fastgan.errors import UserError


def in_dali(device: torch.device | None = None, num_threads: int | None = None) -> Decoder:
    """Return a decoder of the files of a folder or zip by DALI.

    The result is that of the other decoders but for roundings (see dali/pipeline.py). device: None
    = the GPU where there is one. num_threads: None = one a usable core. Raises UserError without
    DALI.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    import_dali(device)

    def decode_source(source: Source, target: Target, start: int) -> Iterator[Block]:
        if not isinstance(source, FileSource):
            raise UserError(
                f"{source.origin} holds no image files, so there is nothing for DALI to decode: let Pillow do it"
            )
        files = EncodedFiles(source, target.img_resolution, target.img_channels)
        for rows, images, bad in decoded_blocks(
            files, device, num_threads or num_usable_cpus(), target.block_size, start
        ):
            labels = (
                None
                if source.labels is None
                else np.array([source.labels[row] for row in rows if row not in bad], np.int64)
            )
            yield Block(len(rows), images, labels, tuple((files.where(row), str(bad[row])) for row in bad))
    return decode_source


def decoded_blocks(files: EncodedFiles, device: torch.device, num_threads: int, block_size: int,
                   start: int = 0) -> Iterator[tuple[range, np.ndarray, dict[int, BadImage]]]:
    """Yield (numbers of the files, images of the usable ones, the others with their reasons).

    The files come in order, from number `start` on. images: uint8 [number of usable ones,
    img_resolution, img_resolution, img_channels]. block_size: files in a block.
    """
    bad: dict[int, BadImage] = {}
    blocks = [
        range(first, min(first + block_size, files.num_files)) for first in range(start, files.num_files, block_size)
    ]
    chunks = (part for block in blocks for part in _parts(block, chunk_size(device)))
    decoded = decode(files, chunks, device, num_threads, bad.__setitem__)
    for block in blocks:
        images = np.concatenate([next(decoded).cpu().numpy() for _ in _parts(block, chunk_size(device))])
        yield block, images[[row not in bad for row in block]], {row: bad[row] for row in block if row in bad}


def _parts(block: range, size: int) -> list[Chunk]:
    rows = np.arange(block.start, block.stop)
    return [Chunk(part, np.zeros((len(part), 3))) for part in np.split(rows, range(size, len(rows), size))]
