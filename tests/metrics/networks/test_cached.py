"""Cached tensors: computed once, and again when the facts change or the file is damaged."""
import pytest
import torch

from fastgan.metrics.networks.cached import cached


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    return tmp_path / "metrics"


class Computing:
    """A `compute` that counts its calls."""

    calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": torch.arange(6.0).view(2, 3).T, "n": torch.tensor(self.calls)}


def test_the_same_facts_are_computed_once(folder):
    compute = Computing()
    first, second = (cached("kind", {"a": 1, "b": "x"}, compute) for _ in range(2))
    assert compute.calls == 1
    assert first.keys() == second.keys() == {"x", "n"}
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(("kind", "facts"), [("kind", {"a": 2}), ("other", {"a": 1}), ("kind", {"a": 1, "b": 1})])
def test_other_facts_are_others(folder, kind, facts):
    compute = Computing()
    cached("kind", {"a": 1}, compute)
    assert cached(kind, facts, compute)["n"] == 2
    assert cached("kind", {"a": 1}, compute)["n"] == 1


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: b"", lambda content: b"x" * 100])
def test_a_damaged_file_is_written_anew(folder, damage):
    compute = Computing()
    cached("kind", {}, compute)
    [path] = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cached("kind", {}, compute)["n"] == 2
    assert cached("kind", {}, compute)["n"] == 2
    assert list(folder.iterdir()) == [path]


def test_where_nothing_can_be_kept_it_is_computed_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "file"))
    compute = Computing()
    assert [cached("kind", {}, compute)["n"].item() for _ in range(2)] == [1, 2]
