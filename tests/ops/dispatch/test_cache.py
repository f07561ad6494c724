"""The on-disk cache of this machine's operators."""
import pytest

from fastgan.errors import DiskError
from fastgan.ops.dispatch import binaries, cache
from fastgan.ops.dispatch.cache import Findings


def anything(value):
    return True


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))


def test_what_was_saved_is_there_for_the_next_process_and_what_was_not_is_gone():
    first = Findings("times", "cpu", anything)
    first["a"] = [1.5, 2.5]
    first.save()
    first["b"] = 1
    assert Findings("times", "cpu", anything) == {"a": [1.5, 2.5]}
    assert Findings("verdicts", "cpu", anything) == {}


def test_two_processes_keep_what_both_found():
    first, second = Findings("times", "cpu", anything), Findings("times", "cpu", anything)
    first["a"], second["b"] = 1, 2
    first.save()
    second.save()
    assert Findings("times", "cpu", anything) == {"a": 1, "b": 2}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a": "of another version"}'])
def test_a_file_that_is_torn_or_foreign_is_as_good_as_none(content):
    path = Findings("times", "cpu", anything).path
    path.parent.mkdir()
    path.write_bytes(content)
    assert Findings("times", "cpu", lambda value: isinstance(value, int)) == {}


def test_a_disk_that_refuses_costs_a_warning(monkeypatch):
    def refuse(path, text):
        raise DiskError("cannot write it: disk full")

    monkeypatch.setattr(cache, "write_text", refuse)
    known = Findings("times", "cpu", anything)
    known["a"] = 1
    with pytest.warns(UserWarning, match="not kept: cannot write it: disk full"):
        known.save()


def test_another_library_is_another_file(monkeypatch, tmp_path):
    def path_with(library):
        cache._stamp.cache_clear()
        monkeypatch.setattr(binaries, "library_path", lambda: library)
        return Findings("times", "cpu", anything).path

    try:
        library = tmp_path / "libfastgan_ops.so"
        absent = path_with(library)
        library.write_bytes(b"one")
        one = path_with(library)
        library.write_bytes(b"two")
        assert len({absent, one, path_with(library)}) == 3
    finally:
        cache._stamp.cache_clear()
