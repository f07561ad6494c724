"""Image files in a folder or in a zip: their selection, their classes, and their source."""
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from fastgan.data.images import SUFFIXES, BadImage, check_file_size, native_size, open_image
from fastgan.data.source import Piece, Source, digest, file_facts
from fastgan.errors import UserError

ReadMember = Callable[[PurePosixPath], bytes]


class FileSource(Source):
    """Images in files.

    members: their paths below `origin`, sorted. labels: int64 [num_images], or None. read_member:
    reads the content of one file; raises BadImage. It can be pickled, so that another process can
    read the files as well.
    """

    remedy = "; mend or remove it, or leave such files out with skip_bad"

    def __init__(self, name: str, origin: str, members: Sequence[PurePosixPath], read_member: ReadMember):
        if not members:
            raise UserError(f"no images in {origin}: it holds no file that ends in {', '.join(sorted(SUFFIXES))}")
        self.name, self.origin, self.num_images = name, origin, len(members)
        self.members, self.read_member = members, read_member
        self.labels, self.class_names = class_labels(members)

    def where(self, member: PurePosixPath) -> str:
        """Return the name of one file in error messages."""
        return os.path.join(self.origin, member)

    @property
    def native_resolution(self) -> int:
        return self._native_size[0]

    @property
    def native_channels(self) -> int:
        return self._native_size[1]

    def pieces(self) -> Iterator[Piece]:
        for index, member in enumerate(self.members):
            labels = None if self.labels is None else self.labels[index:index + 1]
            yield Piece(self.where(member), partial(self._open, member), labels)

    def _open(self, member: PurePosixPath) -> Image.Image:
        return open_image(self.read_member(member))

    @cached_property
    def _native_size(self) -> tuple[int, int]:
        reason = None
        for member in self.members:  # a bad first file may be one that skip_bad will leave out
            try:
                return native_size(self._open(member))
            except BadImage as error:
                reason = reason or f"{self.where(member)}: {error}"
        raise UserError(
            f"none of the {self.num_images} files in {self.origin} can be read as an image; the first is {reason}"
        )


class FolderSource(FileSource):
    """The image files below a folder, links followed.

    Hidden files and files of other kinds are passed over.
    """

    def __init__(self, folder: Path):
        super().__init__(
            folder.resolve().name or str(folder), str(folder), _files_below(folder), partial(_read_file, str(folder))
        )

    def fingerprint(self) -> str:
        return digest(
            [os.path.realpath(self.origin), [(str(member), file_facts(self.where(member))) for member in self.members]]
        )


def _read_file(folder: str, member: PurePosixPath) -> bytes:
    path = os.path.join(folder, member)
    try:
        status = os.stat(path)
    except OSError:
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
        raise BadImage("is a broken link, or not an ordinary file")
    check_file_size(status.st_size)
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise BadImage(f"cannot be read ({error.strerror})") from error


def is_image_name(member: PurePosixPath) -> bool:
    """Return True for the path of an image file.

    It has a known suffix, nothing in it is hidden, and it is none of macOS' shadow files.
    """
    return member.suffix.lower() in SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in member.parts)


def class_labels(members: Sequence[PurePosixPath]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return (labels int64 [num_images], class names) of files in class folders.

    Return (None, None) of other files. Folders that all files share are looked through. The files
    are in classes when, below those, every file lies in a folder and there are at least two of
    them; the class names are the sorted names of these folders.
    """
    folders = {member.parts[:-1] for member in members}
    depth = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(folders), max(folders), strict=False)))
    if any(len(parts) == depth for parts in folders):
        return None, None
    class_names = tuple(sorted({parts[depth] for parts in folders}))
    number = {class_name: label for label, class_name in enumerate(class_names)}
    return np.array([number[member.parts[depth]] for member in members], np.int64), class_names


def _files_below(folder: Path) -> list[PurePosixPath]:
    members, seen = [], set()
    for here, subfolders, files in os.walk(folder, followlinks=True, onerror=_cannot_list):
        real = os.path.realpath(here)
        if real in seen:  # a link back: its files have been, or will be, listed once
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        below = Path(here).relative_to(folder).as_posix()
        members += [PurePosixPath(below, file) for file in files]
    # Sorted as paths sort, in a third of the time
    return sorted(filter(is_image_name, members), key=lambda member: member.parts)


def _cannot_list(error: OSError) -> None:
    raise UserError(
        f"cannot list the folder {error.filename} ({error.strerror}): give yourself permission to read it, or move it "
        "away"
    ) from error
