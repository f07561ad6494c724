import subprocess
import sys

import pytest

import fastgan

HEAVY = {"torch", "numpy", "triton", "matplotlib", "PIL", "rich", "safetensors", "tensorboard", "pooch", "requests"}


def test_importing_fastgan_imports_nothing_heavy():
    # -P: the working folder must not shadow the package that is installed.
    code = "import sys, fastgan; dir(fastgan); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "fastgan" in loaded
    assert not loaded & HEAVY


def test_training_on_local_data_loads_no_library_of_downloads():
    code = (
        "import sys, fastgan.trainer, fastgan.data; fastgan.data.open_source('fashion-mnist-10k').read(8, 1)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert "fastgan.data.sources.download" in done.stdout.split()
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"pooch", "requests", "urllib3"}


@pytest.mark.parametrize(
    "package", [fastgan, fastgan.data, fastgan.metrics, fastgan.nn, fastgan.ops], ids=lambda package: package.__name__
)
def test_every_public_name_can_be_loaded(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = package.nonsense
