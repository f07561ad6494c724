"""Tars of images, WebDataset's shards among them, read in place: nothing is unpacked to the disk.

In a WebDataset the files of a sample share their path up to the first dot of the file's name:
`shard/0001.jpg`, `shard/0001.cls`. Tars whose images share it with no other file are read as
folders are.
"""
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fastgan.data.images import BadImage, check_file_size
from fastgan.data.source import digest, file_facts
from fastgan.data.sources.archive import refuse_outside
from fastgan.data.sources.folder import TreeSource, class_labels, is_image_name
from fastgan.data.sources.records.labels import Labels, numbered
from fastgan.errors import UserError

_MOST_ENTRIES = 20_000_000
_MOST_HEADER_BYTES = 1 << 20  # of a long name; tarfile reads it whole
_MOST_LABEL_BYTES = {".cls": 1 << 10, ".json": 1 << 20}
_JSON_KEYS = ("label", "cls", "class")
_LONG_HEADERS = (*tarfile.GNU_TYPES[:2], tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


def is_tar(path: Path) -> bool:
    """Return True for a tar without compression, by its magic number or, for old ones, its name."""
    with open(path, "rb") as file:
        return file.read(512)[257:262] == b"ustar" or path.suffix.lower() == ".tar"


class TarSource(TreeSource):
    """The images in a tar, or in all tars of a folder.

    The class of a WebDataset's sample is in its .cls, or under label, cls or class in its .json;
    without any, class folders give it, where there are some. Of several images of a sample that
    with the plainest name is taken (0001.jpg before 0001.seg.png). beside: the number of other
    files of each kind in the folder. Raises UserError for a tar that is damaged, cut short or
    points outside.
    """

    def __init__(self, origin: Path, shards: Sequence[Path], beside: Mapping[str, int] | None = None):
        reader = TarMembers(tuple(shards))
        files = list(reader.index.places)
        samples = _Samples(files)
        super().__init__(origin.resolve().name, str(origin), samples.files, reader)
        self._shards = shards
        found = _labels(self.members, reader.index.labels, self.origin)
        if found is not None:
            self.labels, self.class_names, self.why_no_labels = found.labels, found.class_names, found.why_none
            used = Counter(label_file.suffix.lower() for label_file in reader.index.labels)
            self.left_out = Counter(self.left_out) - used
        elif len(shards) > 1 and not self.why_no_labels:  # the folder above all is the shard's name
            self.labels, self.class_names = class_labels([PurePosixPath(*one.parts[1:]) for one in self.members])
        self.left_out = Counter(self.left_out) + samples.passed_over + Counter(beside)

    def where(self, member: PurePosixPath) -> str:
        return f"{member} in {self.origin}"

    def fingerprint(self) -> str:
        return digest([[str(shard.resolve()), file_facts(shard)] for shard in self._shards])


class TarMembers:
    """A reader of the files in tars; pickled as their paths, and indexed anew after unpickling."""

    def __init__(self, shards: tuple[Path, ...]):
        self._shards = shards

    def __reduce__(self) -> tuple:
        return TarMembers, (self._shards,)

    @cached_property
    def index(self) -> "_Index":
        index = _Index()
        for shard in self._shards:
            index.add(shard, PurePosixPath(shard.name) if len(self._shards) > 1 else PurePosixPath())
        return index

    def __call__(self, member: PurePosixPath) -> bytes:
        shard, start, size = self.index.places[member]
        check_file_size(size)
        try:
            with open(shard, "rb", buffering=0) as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise BadImage(f"cannot be read ({error.strerror})") from error
        if len(data) < size:
            raise BadImage("is cut short")
        return data


@dataclass
class _Index:
    """places: (tar, first byte, size) of every file. labels: the label in every file of one."""

    places: dict[PurePosixPath, tuple[Path, int, int]] = field(default_factory=dict)
    labels: dict[PurePosixPath, object] = field(default_factory=dict)

    def add(self, shard: Path, below: PurePosixPath) -> None:
        """Take in the files of a tar, under the path `below`."""
        try:
            with open(shard, "rb") as file:
                for info in _entries(file, shard):
                    self._add_file(info, shard, below / info.name, file)
        except (OSError, tarfile.TarError, ValueError) as error:
            raise UserError(f"{shard} is not a whole tar ({error}): copy or download it again") from error

    def _add_file(self, info: tarfile.TarInfo, shard: Path, member: PurePosixPath, file: BinaryIO) -> None:
        if len(self.places) >= _MOST_ENTRIES:
            raise UserError(f"{shard} holds more than the {_MOST_ENTRIES} files that are taken for safe: split the set")
        self.places[member] = shard, info.offset_data, info.size
        if info.size <= _MOST_LABEL_BYTES.get(member.suffix.lower(), -1):
            file.seek(info.offset_data)  # in the page that the header was in
            label = _label_in(file.read(info.size), member.suffix.lower())
            if label is not None:
                self.labels[member] = label


class _BoundedInfo(tarfile.TarInfo):
    """A header whose sizes cannot make tarfile read without an end, or back to where it was."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _LONG_HEADERS and self.size > _MOST_HEADER_BYTES):
            raise tarfile.ReadError(f"a header claims {self.size} bytes")
        return super()._proc_member(archive)


def _entries(file: BinaryIO, shard: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of the ordinary files; raise tarfile.ReadError where one is damaged."""
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_BoundedInfo) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # a kilobyte each
            refuse_outside(info.name, shard)
            if info.isreg() and not info.issparse():
                yield info
        # tarfile takes a damaged header for the end
        file.seek(archive.offset)
        if file.read(512).strip(b"\0"):
            raise tarfile.ReadError(f"the header at byte {archive.offset} is damaged")


def _label_in(content: bytes, suffix: str) -> object:
    if suffix == ".cls":
        return content.decode("utf-8", "replace").strip() or None
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return next((values[key] for key in _JSON_KEYS if key in values), None) if isinstance(values, dict) else None


class _Samples:
    """The files of tars by their samples.

    files: all but the images that are passed over, which are counted by kind.
    """

    def __init__(self, files: Sequence[PurePosixPath]):
        images, others = defaultdict(list), set()
        for file in files:
            if is_image_name(file):
                images[_key(file)].append(file)
            else:
                others.add(_key(file))
        self.passed_over: Counter[str] = Counter()
        self.files = list(files)
        if not others.isdisjoint(images):  # a WebDataset
            unused = {file for group in images.values() if len(group) > 1 for file in _all_but_plainest(group)}
            self.passed_over.update("." + file.name.partition(".")[2].lower() for file in unused)
            self.files = [file for file in files if file not in unused]


def _labels(members: Sequence[PurePosixPath], found: dict[PurePosixPath, object], origin: str) -> Labels | None:
    """Return the labels of the images, or None where no sample has one."""
    of_sample = {}
    for suffix in (".json", ".cls"):  # that of a .cls replaces that of a .json
        of_sample |= {_key(file): label for file, label in found.items() if file.suffix.lower() == suffix}
    labels = [of_sample.get(_key(member)) for member in members]
    return None if all(label is None for label in labels) else numbered(labels, origin)


def _key(file: PurePosixPath) -> PurePosixPath:
    return file.with_name(file.name.partition(".")[0] or file.name)


def _all_but_plainest(images: list[PurePosixPath]) -> list[PurePosixPath]:
    plainest = min(file.name.count(".") for file in images)
    if sum(file.name.count(".") == plainest for file in images) > 1:
        raise UserError(f"the sample {_key(images[0])} holds several images ({', '.join(file.name for file in images)})"
                        ", and which is meant is unclear: keep one kind in the tar")
    return [file for file in images if file.name.count(".") > plainest]
