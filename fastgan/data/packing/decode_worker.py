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

from fastgan.data.images import BadImage, fit, open_image
from fastgan.data.sources.folder import ReadMember


def decode_members(read_member: ReadMember, members: Sequence[PurePosixPath], img_resolution: int, img_channels: int):
    """Return (images uint8 [num_good, R, R, C], [(place in members, reason) of each bad one])."""
    images = np.empty((len(members), img_resolution, img_resolution, img_channels), np.uint8)
    num_good, bad = 0, []
    for place, member in enumerate(members):
        try:
            images[num_good] = fit(open_image(read_member(member)), img_resolution, img_channels)[0]
            num_good += 1
        except BadImage as reason:
            bad.append((place, str(reason)))
    return images[:num_good], bad


def serve() -> None:
    """Answer requests on stdout until stdin ends.

    First (read_member, R, C, most pixels of an image) comes in, then lists of members, all pickled.
    Both ends of the pipes are ours: Pillow reads the user's files, and they are never unpickled.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; it is for the parent process
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's prints must not get between the answers
    read_member, img_resolution, img_channels, Image.MAX_IMAGE_PIXELS = pickle.load(sys.stdin.buffer)
    try:
        while True:
            members = pickle.load(sys.stdin.buffer)
            pickle.dump(_answer(read_member, members, img_resolution, img_channels), answers, protocol=5)
            answers.flush()
    except (EOFError, BrokenPipeError):  # the parent process has ended, or was killed
        os._exit(0)


def _answer(read_member: ReadMember, members: Sequence[PurePosixPath], img_resolution: int, img_channels: int):
    try:
        return decode_members(read_member, members, img_resolution, img_channels)
    except Exception as error:  # raised again where it was asked
        return error
