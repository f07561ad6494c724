"""A zip of images, read in place: nothing is unpacked to the disk."""
import zipfile
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from fastgan.data.images import BadImage, check_file_size
from fastgan.data.sources.folder import TreeSource
from fastgan.errors import UserError


class ZipSource(TreeSource):
    """The image files in a zip.

    Zips that are encrypted, or whose members point outside, are refused whole.
    """

    def __init__(self, path: Path):
        zipped = ZipMembers(path)
        for info in zipped.infos.values():
            _refuse_unsafe(info, path)
        super().__init__(path.name, str(path), zipped.infos, zipped)

    def where(self, member: PurePosixPath) -> str:
        return f"{member} in {self.origin}"


class ZipMembers:
    """A reader of the members of a zip; pickled as its path, and opened anew after unpickling."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple:
        return ZipMembers, (self._path,)

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return open_zip(self._path)

    @cached_property
    def infos(self) -> dict[PurePosixPath, zipfile.ZipInfo]:
        """All files in the zip by their path."""
        return {
            PurePosixPath(info.filename.replace("\\", "/")): info for info in self._zip.infolist() if not info.is_dir()
        }

    def __call__(self, member: PurePosixPath) -> bytes:
        info = self.infos[member]
        check_file_size(info.file_size)
        try:
            return self._zip.read(info)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise BadImage(f"cannot be unpacked ({error})") from error


def open_zip(path: Path) -> zipfile.ZipFile:
    """Return the opened zip; raise UserError for a file that is not a whole zip."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path} is not a whole zip file ({error}): copy or download it again") from error


def _refuse_unsafe(info: zipfile.ZipInfo, path: Path) -> None:
    if info.flag_bits & 1:
        raise UserError(f"{path} is encrypted ({info.filename}): unpack it with its password and give the folder")
    refuse_outside(info.filename, path)


def refuse_outside(name: str, path: Path) -> None:
    """Raise UserError for a member of the archive at `path` that would lie outside of it."""
    member = PureWindowsPath(name)  # handles / and \ and drive letters
    if member.anchor or ".." in member.parts:
        raise UserError(
            f"{path} is refused: its member {name!r} points outside the archive; make it anew from a folder you trust"
        )
