"""Image files decoded by NVIDIA DALI: on the GPU where there is one, else on the CPU.

The result is that of `fastgan.data.images.fit`, with these roundings, in steps of 1/255:
- PNG and JPEG on the CPU: exact where nothing is resized; grey made of colour is 1 off in fewer
  than 1 of 10 000 pixels. JPEG on the GPU: the GPU's decoder rounds in its own way.
- Resized on the CPU (by torch, where it has Lanczos: 4 to 10 times as fast as Pillow): 1 off in
  up to 1 % of the pixels; by Pillow otherwise: exact.
- Resized on the GPU (by DALI, in two passes with 8 bits between, like Pillow; measured with the
  same operators on the CPU): 1 off in up to 1 % of the pixels, rarely 2; in the three rows and
  columns next to the border up to 10, since Pillow leaves out the part of the filter that lies
  outside the image, and DALI repeats the border's pixels there.

DALI's own resizing on the CPU is hardly faster than Pillow's (256 to 64 pixels: 1.6 k images/s a
thread, torch's 7 k) and therefore not used.
"""
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.data.dali.files import Encoded, EncodedFiles
from fastgan.data.images import BadImage, fit
from fastgan.errors import UserError

_PREFETCHED = 2  # chunks that DALI decodes ahead
_READ_AHEAD = 3  # chunks that are read ahead of those
_HAS_LANCZOS = hasattr(torch.ops.aten, "_upsample_lanczos2d_aa")  # torch 2.13 has it, for the CPU

BadFile = Callable[[int, BadImage], None]


@dataclass(frozen=True)
class Chunk:
    """Files that DALI decodes together.

    rows: int64 [n], numbers of files. uniform: float64 [n, 3] in [0, 1), the numbers for their
    random squares.
    """

    rows: np.ndarray
    uniform: np.ndarray


def chunk_size(device: torch.device) -> int:
    """Return the largest number of images decoded at once.

    Whole squares of them are in memory at full resolution, several chunks at a time.
    """
    return 128 if device.type == "cuda" else 32


def num_usable_cpus() -> int:
    """Return the number of decoding threads: one for each usable core."""
    return len(os.sched_getaffinity(0))


def decode(
    files: EncodedFiles, chunks: Iterable[Chunk], device: torch.device, num_threads: int, bad_file: BadFile
) -> Iterator[torch.Tensor]:
    """Decode chunk after chunk to uint8 [n, img_resolution, img_resolution, img_channels].

    The images are on `device`. chunks: of at most `chunk_size(device)` files; may be endless.
    bad_file: called with (number, reason) for a file that cannot be used, in any thread; it raises,
    or the image becomes black. Files that DALI refuses are left to Pillow: it decodes these files,
    and those in work beside them, from then on. On CUDA the images lie in DALI's memory, are ready
    on the stream that is current when the caller asks for them, and are to be copied on that
    stream.
    """
    dali = import_dali(device)
    chunks, waiting = iter(chunks), deque()
    while True:
        with closing(_read_ahead(files, chain(list(waiting), _noted(chunks, waiting)), bad_file)) as encoded:
            pipeline = _pipeline(dali, encoded, files, device, num_threads)
            try:
                while True:
                    images = _next_images(pipeline, files.img_resolution, device)
                    waiting.popleft()
                    yield images
            except StopIteration:
                return
            except RuntimeError:
                if not waiting or not files.leave_to_pillow(np.concatenate([chunk.rows for chunk in waiting])):
                    raise


def refusing(files: EncodedFiles) -> BadFile:
    """Return a `bad_file` for `decode` that raises a UserError naming the file."""
    def refuse(row: int, reason: BadImage) -> None:
        raise UserError(f"{files.where(row)}: {reason}{files.source.remedy}") from reason
    return refuse


def import_dali(device: torch.device):
    """Import the module nvidia.dali when it is first needed, and return it.

    Raises UserError where it is missing, or the GPU that `device` names is.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"decoding on {device} needs a CUDA device, and there is none: choose --device cpu")
    try:
        import nvidia.dali
        import nvidia.dali.fn  # noqa: F401  not imported by the package itself
    except ImportError as error:
        raise UserError(
            "decoding by DALI needs the package nvidia-dali-cuda130: pip install 'fastgan[dali]'"
        ) from error
    return nvidia.dali


def _noted(chunks: Iterator[Chunk], waiting: deque[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        waiting.append(chunk)
        yield chunk


def _read_ahead(
    files: EncodedFiles, chunks: Iterator[Chunk], bad_file: BadFile
) -> Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Yield the inputs of DALI for each chunk, read by a few threads.

    They are encoded files, and corners int32 [n, 2] and shapes int32 [n, 2] of the squares.
    """
    with ThreadPoolExecutor(_READ_AHEAD) as pool:
        futures: deque[Future] = deque()
        for chunk in chunks:
            futures.append(pool.submit(_read, files, chunk, bad_file))
            if len(futures) > _READ_AHEAD:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def _read(files: EncodedFiles, chunk: Chunk, bad_file: BadFile) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    encoded = [
        _read_one(files, row, uniform, bad_file)
        for row, uniform in zip(chunk.rows.tolist(), chunk.uniform, strict=True)
    ]
    sides = np.array([one.side for one in encoded], np.int32)
    return (
        [one.data for one in encoded],
        np.array([one.corner for one in encoded], np.int32),
        np.stack([sides, sides], 1),
    )


def _read_one(files: EncodedFiles, row: int, uniform: np.ndarray, bad_file: BadFile) -> Encoded:
    try:
        return files.encoded(row, uniform)
    except BadImage as reason:
        bad_file(row, reason)
        return files.blank()


def _pipeline(dali, encoded: Iterator, files: EncodedFiles, device: torch.device, num_threads: int):
    on_gpu = device.type == "cuda"
    build = dali.pipeline_def(graph)
    device_id = None if not on_gpu else torch.cuda.current_device() if device.index is None else device.index
    return build(
        dali,
        encoded,
        files.img_channels,
        "mixed" if on_gpu else "cpu",
        files.img_resolution if on_gpu else None,
        batch_size=chunk_size(device),
        num_threads=num_threads,
        device_id=device_id,
        exec_dynamic=True,
        prefetch_queue_depth=_PREFETCHED,
    )


def graph(dali, encoded: Iterator, img_channels: int, decoder: str, img_resolution: int | None):
    """Return the squares of the images, uint8 [side, side, img_channels].

    They are resized to img_resolution if one is given. decoder: mixed (on the GPU) or cpu.
    """
    fn, types = dali.fn, dali.types
    files, corners, shapes = fn.external_source(
        encoded, num_outputs=3, batch=True, dtype=[types.UINT8, types.INT32, types.INT32], ndim=[1, 1, 1]
    )
    # libjpeg uses fancy upsampling of the colours on the CPU, for DALI and for Pillow.
    images = fn.decoders.image_slice(
        files, start=corners, shape=shapes, axes=(0, 1), device=decoder, jpeg_fancy_upsampling=True
    )
    # Not by the decoder, which would take the brightness that a JPEG stores: it differs by up to
    # 18/255 from that of the RGB values.
    if img_channels == 1:
        images = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
    if img_resolution is not None:
        lanczos = {"interp_type": types.INTERP_LANCZOS3, "mode": "stretch"}
        # The width alone, as Pillow begins; 0 = leave the height
        images = fn.resize(images, size=[0, img_resolution], **lanczos)
        images = fn.resize(images, size=[img_resolution, img_resolution], **lanczos)
    return images


def _next_images(pipeline, img_resolution: int, device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        (images,) = pipeline.run(cuda_stream=torch.cuda.current_stream(device))
        return torch.from_dlpack(images.as_tensor())
    (squares,) = pipeline.run()
    if squares.is_dense_tensor():
        return _shrunk(torch.from_numpy(squares.as_array()), img_resolution)
    return torch.cat([_shrunk(torch.from_numpy(np.asarray(square))[None], img_resolution) for square in squares])


def _shrunk(squares: torch.Tensor, img_resolution: int) -> torch.Tensor:
    """Resize uint8 [n, side, side, C] to [n, img_resolution, img_resolution, C] by Lanczos."""
    if squares.shape[1] == img_resolution:
        return squares
    if not _HAS_LANCZOS:
        return torch.from_numpy(fit(squares.numpy(), img_resolution, squares.shape[3]))
    size = (img_resolution, img_resolution)
    return F.interpolate(
        squares.permute(0, 3, 1, 2), size, mode="lanczos", antialias=True, align_corners=False
    ).permute(0, 2, 3, 1)
