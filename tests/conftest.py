"""What every test relies on: GPU tests are skipped where there is none, and no test touches the
user's cache of data.
"""
import os
import sys
from pathlib import Path

import pytest

# Last on the path: `import bench` works, while fastgan stays the installed one where it is installed.
sys.path.append(str(Path(__file__).parents[1]))

from fastgan.files import cache_folder  # noqa: E402

# Compiled code is worth keeping from one run of the tests to the next; read by torch, here and in subprocesses.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))


def pytest_report_header() -> str:
    import fastgan

    return f"fastgan: {Path(fastgan.__file__).parent}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache folder for this run of the tests alone: downloads and measurements neither come from
    the user's nor go there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
