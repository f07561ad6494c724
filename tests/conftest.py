"""Settings for every test.

GPU tests are skipped where there is no GPU, and no test touches the user's cache of data.
"""
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
WITHOUT_LIBRARY = "--without-library"

# `python -m pytest` puts the working folder first on the path. The installed package is tested, as `pytest` does; a
# checkout is where nothing is installed, or where PYTHONPATH names it.
if str(ROOT) not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    sys.path[:] = [folder for folder in sys.path if folder not in ("", str(ROOT))]
sys.path.append(str(ROOT))  # last: for a checkout where nothing is installed

# Threads of two workers wait for each other's in loops that burn the cores: three times as long on two of them.
if IS_WORKER:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from fastgan.files import cache_folder  # noqa: E402

# No test asserts a time, of drawing examples neither: a busy machine is no fault.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Compiled code is kept between runs of the tests; read by torch, here and in subprocesses.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))


def pytest_report_header() -> str:
    import fastgan

    return f"fastgan: {Path(fastgan.__file__).parent}"


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "skip the tests of the library of native kernels where it was not built, instead of an error"
    parser.addoption(WITHOUT_LIBRARY, action="store_true", help=help)


def pytest_sessionstart(session: pytest.Session) -> None:
    """End here where tests would be skipped for want of the library and nobody said so."""
    from fastgan.ops.dispatch.registry import native_problem, turned_off

    if IS_WORKER or session.config.getoption(WITHOUT_LIBRARY) or turned_off():
        return
    problem = native_problem("cpu")
    if problem is not None:
        pytest.exit(f"{problem}; or skip its tests: pytest {WITHOUT_LIBRARY}", returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Use a cache folder for this run of the tests alone.

    Downloads and measurements neither come from the user's cache nor go there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def untimed_eager_calls():
    """Run the references in eager calls, except in the tests of their timing, which takes seconds."""
    from fastgan.ops.dispatch import autotune

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autotune, "_is_eager", lambda device_type: False)
        yield
