import subprocess
import sys

import pytest

import fastgan

HEAVY = {"torch", "numpy", "triton", "matplotlib", "PIL", "rich", "safetensors", "tensorboard"}


def test_importing_fastgan_imports_nothing_heavy():
    # -P: the working folder must not shadow the package that is installed.
    code = "import sys, fastgan; dir(fastgan); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "fastgan" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "package", [fastgan, fastgan.data, fastgan.metrics, fastgan.nn, fastgan.ops], ids=lambda package: package.__name__
)
def test_every_public_name_can_be_loaded(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = package.nonsense
