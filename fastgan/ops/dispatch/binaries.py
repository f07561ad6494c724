"""Paths of the kernels: the library of native ones, and the sources of the Triton ones."""
import hashlib
from pathlib import Path


def library_path() -> Path:
    """Return the path of the library of native kernels; the file exists if it was built."""
    return Path(__file__).parents[1] / "libfastgan_ops.so"


def digest_of_kernels() -> str:
    """Return a hash of the library and of the Triton sources."""
    from fastgan import kernels

    digest = hashlib.sha256()
    files = [library_path()] + [file for folder in kernels.__path__ for file in sorted(Path(folder).glob("*.py"))]
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"absent")
    return digest.hexdigest()
