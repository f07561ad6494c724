"""The result of `pip install .` on a machine with a C++ compiler and on one without."""
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = "fastgan/ops/libfastgan_ops.so"


def has(*programs: str) -> bool:
    return any(shutil.which(program) or importlib.util.find_spec(program) for program in programs)


has_compiler = sys.platform == "linux" and has("c++", "g++", "clang++")
builds_wheels = pytest.mark.skipif(not has("scikit_build_core"), reason="scikit-build-core is not installed")
builds_libraries = pytest.mark.skipif(
    not (has_compiler and has("cmake") and has("ninja", "make")),
    reason="needs Linux, a C++ compiler, cmake, and ninja or make",
)
builds_in_a_checkout = pytest.mark.skipif(
    not (has_compiler and shutil.which("cmake") and shutil.which("make")),
    reason="needs Linux, a C++ compiler, and cmake and make on PATH",
)


def build_wheel(folder: Path, **environment: str) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


# The broken nvcc is the quicker one: with a whole one the CUDA sources take a minute.
@builds_wheels
@builds_libraries
@pytest.mark.parametrize(
    "environment",
    [{"CUDACXX": "/bin/false"}, pytest.param({}, marks=pytest.mark.thorough)],
    ids=["broken nvcc", "nvcc as it is"],
)
def test_a_wheel_holds_package_kernels_assets_and_a_library_that_loads(tmp_path, environment):
    wheel = build_wheel(tmp_path, **environment)
    assert wheel.stem.startswith("fastgan-0.1.0-py3-none-linux_")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {"fastgan/__init__.py", "fastgan/kernels/__init__.py", LIBRARY} <= names
    assert {"fastgan/assets/fashion_mnist_10k.npz", "fastgan/assets/README.md"} <= names
    assert {"fastgan/bench/cli.py", "fastgan/bench/cuda_code/environment.sh"} <= names
    assert not {"fastgan/kernels.py", "fastgan/bench.py"} & names
    assert not {name for name in names if name.startswith(("tests/", "bench/", "csrc/"))}
    of_the_checkout = ("results", "calls", "RESULTS.md", "README.md", "__main__.py", "conftest.py", "test_step.py")
    assert not [name for name in names if "/bench/" in name and {*name.split("/")} & {*of_the_checkout}]
    code = "from fastgan.ops.dispatch import registry; print(registry.library_path(), registry.native_problem('cpu'))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == f"{tmp_path / 'installed' / LIBRARY} None"


@builds_wheels
def test_without_a_compiler_the_wheel_is_pure_python(tmp_path):
    wheel = build_wheel(tmp_path, CC="/bin/false", CXX="/bin/false")
    assert wheel.name == "fastgan-0.1.0-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert "fastgan/ops/bias_act.py" in names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.thorough
@builds_in_a_checkout
def test_a_broken_nvcc_leaves_the_library_of_a_checkout_without_cuda(tmp_path):
    shutil.copy(ROOT / "CMakeLists.txt", tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    environment = {**os.environ, "CUDACXX": "/bin/false"}
    for command in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    content = (tmp_path / LIBRARY).read_bytes()
    assert b"fastgan_register" in content
    assert b"the library was built without nvcc" in content
