"""The cache of compiled code: an empty one, or the kept one."""

import os

import torch._inductor.codecache as codecache

from fastgan.bench.places import KEPT, compiler_cache


def test_an_empty_cache_unless_one_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv(KEPT, raising=False)
    with compiler_cache(str(tmp_path)):
        assert codecache.cache_dir() != str(tmp_path / "kept")
        assert os.listdir(codecache.cache_dir()) == []
    monkeypatch.setenv(KEPT, "1")
    with compiler_cache(str(tmp_path)):
        assert codecache.cache_dir() == str(tmp_path / "kept")
