import hashlib
import http.server
import threading
from dataclasses import dataclass, field

import pytest

from fastgan.data.sources import download
from fastgan.data.sources.download import RemoteFile, fetch
from fastgan.errors import DiskError, UserError

CONTENT = bytes(range(256)) * 4000  # about a megabyte: several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """The behaviour of the server, and the requests that it received."""

    content: bytes = CONTENT
    knows_ranges: bool = True
    lies_about_ranges: bool = False
    breaks: list[int] = field(default_factory=list)  # bytes after which the first, second ... answers break off
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    behaviour = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            asked = self.headers.get("Range")
            behaviour.asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour.knows_ranges else 0
            if start >= len(behaviour.content):
                return self.send_error(416)
            self.send_response(206 if asked and behaviour.knows_ranges else 200)
            body = behaviour.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.send_header(
                "Content-Range",
                f"bytes {start + behaviour.lies_about_ranges}-{len(behaviour.content) - 1}/{len(behaviour.content)}",
            )
            self.end_headers()
            return self.wfile.write(body[:behaviour.breaks.pop(0)] if behaviour.breaks else body)

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
    assert server.asked == [None]
    assert [entry.name for entry in path.parent.iterdir()] == ["set.gz"]
    assert "downloading set.gz" in capsys.readouterr().err


def test_a_break_is_continued_where_it_happened(server, tmp_path):
    server.breaks = [300_000, 200_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_run_continues_an_earlier_one(server, tmp_path):
    (tmp_path / "set.gz.part").write_bytes(CONTENT[:12345])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=12345-"]


def test_a_whole_part_needs_no_network(server, tmp_path):
    (tmp_path / "set.gz.part").write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "set.gz.part").write_bytes(b"x" * 2_000_000)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_again(server, tmp_path):
    (tmp_path / "set.gz.part").write_bytes(b"x" * 2_000_000)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=2000000-", None]


def test_breaking_without_any_progress_gives_up_and_keeps_the_part(server, tmp_path):
    server.breaks = [1000, 0, 0]
    with pytest.raises(UserError, match=rf"broke after 1000 of {len(CONTENT)} bytes.*by hand"):
        get(server, tmp_path)
    assert (tmp_path / "set.gz.part").read_bytes() == CONTENT[:1000]
    assert not (tmp_path / "set.gz").exists()


def test_a_server_without_ranges_that_always_breaks_gives_up(server, tmp_path):
    server.knows_ranges = False
    server.breaks = [1000] * 10
    with pytest.raises(UserError, match="broke after 1000"):
        get(server, tmp_path)
    assert len(server.asked) == 2


def test_the_wrong_range_is_not_written(server, tmp_path):
    (tmp_path / "set.gz.part").write_bytes(CONTENT[:1000])
    server.lies_about_ranges = True
    with pytest.raises(UserError, match="sent others"):
        get(server, tmp_path)
    assert (tmp_path / "set.gz.part").read_bytes() == CONTENT[:1000]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.content = b"<html>sign in to the network</html>"
    with pytest.raises(UserError, match=f"sent a file whose MD5 is not {MD5}"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_put_there_by_hand_is_named(server, tmp_path):
    (tmp_path / "set.gz").write_bytes(b"wrong")
    with pytest.raises(UserError, match=r"set\.gz is not the file that was published .*delete it"):
        get(server, tmp_path)
    assert server.asked == []


def test_an_answer_of_not_found_is_told(server, tmp_path):
    server.content = b""
    with pytest.raises(UserError, match="the server answered 416"):
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


def test_a_refusing_disk_is_a_disk_error(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot read or write"):
        get(server, tmp_path / "file" / "folder")

    def full(*args):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        get(server, tmp_path)
