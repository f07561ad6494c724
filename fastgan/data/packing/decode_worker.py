"""A process that decodes files.

Pillow holds Python's lock for most of the time that a small image takes, so threads alone do not
scale.
"""
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from fastgan.data.encoded import scaled
from fastgan.data.images import DEEP, BadImage, fit, open_image, traits
from fastgan.data.sources.folder import ReadMember
from fastgan.data.value_range import ValueRange


class RangeNeeded(Exception):
    """An image has more than 8 bits, and the range of the set was not sent."""


def decode_members(
    read_member: ReadMember,
    members: Sequence[PurePosixPath],
    value_range: ValueRange | None,
    img_resolution: int,
    img_channels: int,
) -> tuple[np.ndarray, list[tuple[int, str]], np.ndarray]:
    """Return (images uint8 [num_good, R, R, C], bad ones, traits of all).

    The bad ones are (place in members, reason). value_range: of images of more than 8 bits, or
    None, with which such an image raises RangeNeeded.
    """
    images = np.empty((len(members), img_resolution, img_resolution, img_channels), np.uint8)
    num_good, bad, found = 0, [], np.zeros(len(members), np.uint8)
    for place, member in enumerate(members):
        try:
            data = read_member(member)
            image = open_image(data)
            found[place] = traits(image)
            if found[place] & DEEP:
                image = _scaled(image, data, value_range)
            images[num_good] = fit(image, img_resolution, img_channels)[0]
            num_good += 1
        except BadImage as reason:
            bad.append((place, str(reason)))
    return images[:num_good], bad, found


def _scaled(image: Image.Image, data: bytes, value_range: ValueRange | None) -> Image.Image:
    if value_range is None:
        raise RangeNeeded
    return scaled(image, data, value_range)


def serve() -> None:
    """Answer requests on stdout until stdin ends.

    First (read_member, R, C, most pixels of an image) comes in, then pairs (members, value_range),
    all pickled.
    Both ends of the pipes are ours: Pillow reads the user's files, and they are never unpickled.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; it is for the parent process
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's prints must not get between the answers
    read_member, img_resolution, img_channels, Image.MAX_IMAGE_PIXELS = pickle.load(sys.stdin.buffer)
    try:
        while True:
            members, value_range = pickle.load(sys.stdin.buffer)
            pickle.dump(_answer(read_member, members, value_range, img_resolution, img_channels), answers, protocol=5)
            answers.flush()
    except (EOFError, BrokenPipeError):  # the parent process has ended, or was killed
        os._exit(0)


def _answer(*request):
    try:
        return decode_members(*request)
    except Exception as error:  # raised again where it was asked
        return error
