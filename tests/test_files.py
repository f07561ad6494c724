"""Files that are whole or absent, and the place of the cache."""
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastgan import files
from fastgan.errors import DiskError
from fastgan.files import cache_folder, write_beside_and_rename, write_text


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_content_is_replaced_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / "new" / "folders" / "a.txt"
    write_text(path, "old")
    write_text(str(path), "new\nü")
    assert path.read_bytes() == "new\nü".encode()
    assert names(path.parent) == {"a.txt"}


def test_the_temporary_file_is_in_the_same_folder_and_keeps_the_suffix(tmp_path):
    seen = []
    write_beside_and_rename(tmp_path / "a.png", lambda beside: seen.append(beside))
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".png"
    assert seen[0].name.startswith(".")  # hidden from globs like fakes*.png


def half_written(error: Exception):
    def write(beside: Path) -> None:
        beside.write_text("half")
        raise error

    return write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_refuses_leaves_the_old_file(tmp_path, number):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(DiskError) as caught:
        write_beside_and_rename(path, half_written(OSError(number, os.strerror(number))))
    assert str(caught.value) == f"cannot write {path}: {os.strerror(number)}"
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_disk_that_refuses_at_the_end_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def refuse(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, call, refuse)
    with pytest.raises(DiskError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"cannot write .*a\.txt"):
        write_text(tmp_path / "file" / "a.txt", "x")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug")])
def test_other_ends_pass_through_and_leave_the_old_file(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(type(error)):
        write_beside_and_rename(tmp_path / "a.txt", half_written(error))
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import os, signal, sys; from fastgan.files import write_beside_and_rename as write\n"
        "def half(beside):\n    beside.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(sys.argv[1], half)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_what_open_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask  # looking at it did not change it
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FASTGAN_CACHE": "/here", "XDG_CACHE_HOME": "/there"}, "/here"),
        ({"XDG_CACHE_HOME": "/there"}, "/there/fastgan"),
        ({"FASTGAN_CACHE": "", "XDG_CACHE_HOME": "/there"}, "/there/fastgan"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/fastgan"),
        ({}, "/home/me/.cache/fastgan"),
    ],
)
def test_the_cache_folder(monkeypatch, variables, expected):
    monkeypatch.delenv("FASTGAN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
