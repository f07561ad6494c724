"""Image files in a folder or in a zip: their selection, their classes, and their source."""
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np

from fastgan.data.encoded import Encoded, EncodedSource
from fastgan.data.images import SUFFIXES, BadImage, check_file_size
from fastgan.data.source import digest, file_facts
from fastgan.data.sources.records.dataset_json import LABELS_NAME, read_labels
from fastgan.errors import UserError

ReadMember = Callable[[PurePosixPath], bytes]


class FileSource(EncodedSource):
    """Images in files.

    members: their paths below `origin`. labels: int64 [num_images], or None. read_member: reads the
    content of one file; raises BadImage. It can be pickled, so that another process can read the
    files as well. left_out: see EncodedSource.
    """

    labels: np.ndarray | None = None

    def __init__(
        self,
        name: str,
        origin: str,
        members: Sequence[PurePosixPath],
        read_member: ReadMember,
        left_out: Mapping[str, int] | None = None,
    ):
        super().__init__(name, origin, len(members), left_out)
        self.members, self.read_member = members, read_member

    def where(self, member: PurePosixPath) -> str:
        """Return the name of one file in error messages."""
        return os.path.join(self.origin, member)

    def encoded(self) -> Iterator[Encoded]:
        for member in self.members:
            yield Encoded(self.where(member), partial(self.read_member, member))



class TreeSource(FileSource):
    """The images among `files`, the paths of all files below `origin`.

    They come sorted, with the labels of a dataset.json among the files, else of class folders.
    """

    def __init__(self, name: str, origin: str, files: Iterable[PurePosixPath], read_member: ReadMember):
        members, others = _apart(files)
        if not members:
            raise UserError(f"no images in {origin}: it holds no file that ends in {', '.join(sorted(SUFFIXES))}")
        super().__init__(name, origin, members, read_member, Counter(map(kind_of, others)))
        self.labels, self.class_names = class_labels(members)
        labels_files = [file for file in others if file.name == LABELS_NAME]
        if labels_files:
            self._take_labels_of(min(labels_files, key=lambda file: len(file.parts)))

    def _take_labels_of(self, labels_file: PurePosixPath) -> None:
        """Replace the labels of class folders by those of dataset.json, where it is one."""
        try:
            found = read_labels(self.read_member(labels_file), self.where(labels_file), labels_file, self.members)
        except BadImage as reason:
            raise UserError(f"{self.where(labels_file)}: {reason}") from reason
        if found is not None:
            self.labels, self.why_no_labels = found.labels, found.why_none
            self.class_names = None
            self.left_out = Counter(self.left_out) - Counter([kind_of(labels_file)])


class FolderSource(TreeSource):
    """The image files among `files`, the paths below a folder; links are followed.

    Hidden files and files of other kinds are passed over, and counted.
    """

    def __init__(self, folder: Path, files: Iterable[PurePosixPath]):
        super().__init__(folder.resolve().name or str(folder), str(folder), files, partial(read_file, str(folder)))

    def fingerprint(self) -> str:
        return digest(
            [os.path.realpath(self.origin), [(str(member), file_facts(self.where(member))) for member in self.members]]
        )


def read_file(folder: str, member: PurePosixPath) -> bytes:
    """Return the content of a file below `folder`; raise BadImage where it cannot be read."""
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


def _apart(files: Iterable[PurePosixPath]) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """Return (the image files, sorted; all others)."""
    members, others = [], []
    for file in files:
        (members if is_image_name(file) else others).append(file)
    # Sorted as paths sort, in a third of the time
    return sorted(members, key=lambda member: member.parts), others


def kind_of(file: PurePosixPath) -> str:
    """Return the kind of a file that is no image, in the words of a notice."""
    if any(part.startswith((".", "__MACOSX")) for part in file.parts):
        return "hidden"
    return file.suffix.lower() or "without a suffix"


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


def files_below(folder: Path) -> list[PurePosixPath]:
    """Return the paths below `folder` of all files in it; links are followed, each folder once."""
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
    return members


def _cannot_list(error: OSError) -> None:
    raise UserError(
        f"cannot list the folder {error.filename} ({error.strerror}): give yourself permission to read it, or move it "
        "away"
    ) from error
