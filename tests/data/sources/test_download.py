import hashlib
import http.server
import os
import stat
import threading
from dataclasses import dataclass, field

import pytest

from fastgan.data.sources.download import RemoteFile, fetch
from fastgan.errors import DiskError, UserError

CONTENT = bytes(range(256)) * 4000  # about a megabyte: several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """The behaviour of the server, and how often it was asked."""

    content: bytes = CONTENT
    status: int = 200
    says_the_length: bool = True
    breaks: list[int] = field(default_factory=list)  # bytes after which the first, second ... answers break off
    times_asked: int = 0
    url: str = ""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)  # between two tries
    behaviour = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            behaviour.times_asked += 1
            if behaviour.status != 200:
                return self.send_error(behaviour.status)
            self.send_response(200)
            if self.headers["Accept-Encoding"] != "identity":  # as servers that take an archive for a page
                self.send_header("Content-Encoding", "gzip")
            if behaviour.says_the_length:
                self.send_header("Content-Length", str(len(behaviour.content)))
            self.end_headers()
            end = behaviour.breaks.pop(0) if behaviour.breaks else None
            return self.wfile.write(behaviour.content[:end])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        behaviour.url = f"http://127.0.0.1:{running.server_port}/set.gz"
        yield behaviour
        running.shutdown()


def get(server, folder, progress=False):
    return fetch(RemoteFile(server.url, MD5), folder, progress)


def test_a_file_is_downloaded_once(server, tmp_path, capsys):
    path = get(server, tmp_path / "new", progress=True)
    assert path == tmp_path / "new" / "set.gz"
    assert path.read_bytes() == CONTENT
    assert get(server, tmp_path / "new") == path
    assert server.times_asked == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["set.gz"]
    assert capsys.readouterr().err.startswith("downloading set.gz")


def test_without_a_bar_nothing_is_written(server, tmp_path, capfd):
    get(server, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_break_begins_again(server, tmp_path):
    server.breaks = [300_000, 0]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.times_asked == 3


def test_a_download_that_breaks_every_time_gives_up_and_leaves_nothing(server, tmp_path):
    server.breaks = [1000] * 10
    with pytest.raises(UserError, match=rf"cannot download {server.url} \(.*1000 bytes.*{tmp_path} by hand") as caught:
        get(server, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert server.times_asked == 3
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_of_unknown_length_is_not_taken_for_whole(server, tmp_path):
    server.says_the_length = False
    server.breaks = [1000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.times_asked == 2


def test_without_a_network_the_reason_is_short(server, tmp_path):
    with pytest.raises(UserError, match=r"set\.gz \(\[Errno \d+\] Connection refused\): try again later, or put"):
        fetch(RemoteFile("http://127.0.0.1:9/set.gz", MD5), tmp_path)


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.content = b"<html>sign in to the network</html>"
    with pytest.raises(UserError, match=f"sent a file whose MD5 is not {MD5}"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_put_there_by_hand_needs_no_network(server, tmp_path):
    (tmp_path / "set.gz").write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.times_asked == 0


def test_a_wrong_file_put_there_by_hand_is_named(server, tmp_path):
    (tmp_path / "set.gz").write_bytes(b"wrong")
    with pytest.raises(UserError, match=r"set\.gz is not the file that was published .*delete it"):
        get(server, tmp_path)
    assert server.times_asked == 0
    assert (tmp_path / "set.gz").read_bytes() == b"wrong"


def test_an_answer_of_not_found_is_told(server, tmp_path):
    server.status = 404
    with pytest.raises(UserError, match="the server answered 404 Not Found"):
        get(server, tmp_path)


def test_several_processes_may_fetch_at_once(server, tmp_path):
    server.breaks = [400_000]
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(get(server, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [tmp_path / "set.gz"] * 4
    assert paths[0].read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [paths[0]]


def test_others_may_read_the_file_as_any_that_is_written(server, tmp_path):
    mask = os.umask(0o022)
    try:
        assert stat.S_IMODE(get(server, tmp_path).stat().st_mode) == 0o644
    finally:
        os.umask(mask)


def test_a_refusing_disk_is_a_disk_error(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot read or write .*: (File exists|Not a directory)"):
        get(server, tmp_path / "file" / "folder")

    def full(*args):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("pooch.core.shutil.move", full)
    with pytest.raises(DiskError, match="No space left on device$"):
        get(server, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
