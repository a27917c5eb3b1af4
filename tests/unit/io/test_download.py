"""Downloads against a server that breaks, lies and forbids, as servers do."""

import errno
import hashlib
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import thalweg.io.download
from tests.helpers.http_servers import serve_content
from thalweg.errors import DataError, OptionError, ResourceError
from thalweg.io.download import cache_dir, fetch, is_offline

CONTENT = np.random.default_rng(0).integers(0, 256, 1_000_000, np.uint8).tobytes()
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
QUICK = {"pause": 0.01}


@pytest.fixture
def server(monkeypatch):
    with serve_content(CONTENT, monkeypatch) as made:
        yield made


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_arrives_whole_and_alone(server, tmp_path):
    seen = []
    to = fetch(
        f"{server.url}/x", tmp_path / "deep" / "x.bin", sha256=SHA256, md5=MD5, size=len(CONTENT),
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert to.read_bytes() == CONTENT and left(tmp_path / "deep") == ["x.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


def test_a_file_that_is_there_and_right_is_kept(server, tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert not server.asked


def test_a_file_that_is_there_and_wrong_is_replaced(server, tmp_path):
    (tmp_path / "x").write_bytes(CONTENT[:-1] + b"?")
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_broke(server, tmp_path):
    server.plan = [{"cut": 300_000}, {"status": 503}, {"cut": 200_000}]
    told = []
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256, notice=told.append, **QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=300000-", "bytes=500000-"]
    assert len(told) == 3 and "300,000 of 1,000,000 bytes" in told[0]


def test_a_later_process_goes_on_with_what_an_earlier_one_left(server, tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT[:400_000])
    fetch(f"{server.url}/x", tmp_path / "x", md5=MD5)
    assert server.asked == [("/x", "bytes=400000-")] and (tmp_path / "x").read_bytes() == CONTENT


def test_a_part_that_is_already_whole_only_needs_its_name(server, tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT)
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT and left(tmp_path) == ["x"]


@pytest.mark.parametrize("part", [b"another file's beginning", CONTENT + b"and more"])
def test_a_part_of_something_else_is_thrown_away(server, tmp_path, part):
    (tmp_path / "x.part").write_bytes(part)
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256, **QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_is_asked_for_the_whole(server, tmp_path):
    server.ranges = False
    (tmp_path / "x.part").write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_that_sends_another_range_is_not_believed(server, tmp_path):
    server.plan = [{"shift": 5}]
    (tmp_path / "x.part").write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256, **QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_wrong_sum_leaves_nothing_and_says_both(server, tmp_path):
    for sums in ({"sha256": "0" * 64}, {"md5": "0" * 32}):
        with pytest.raises(DataError, match="expected 000") as error:
            fetch(f"{server.url}/x", tmp_path / "x", **sums)
        assert str(tmp_path / "x") in error.value.cure
        assert not [n for n in left(tmp_path) if not n.endswith(".lock")]


def test_the_beginning_of_a_sum_is_enough_unless_it_is_too_short(server, tmp_path):
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256[:8].upper(), md5=MD5[:12])
    assert (tmp_path / "x").read_bytes() == CONTENT
    with pytest.raises(DataError, match=f"is {SHA256}, expected {'0' * 8}…"):
        fetch(f"{server.url}/x", tmp_path / "y", sha256="0" * 8)
    for short in (SHA256[:7], "0"):
        with pytest.raises(OptionError, match="fewer than 8 digits"):
            fetch(f"{server.url}/x", tmp_path / "z", sha256=short)


def test_a_wrong_size_is_refused_early(server, tmp_path):
    with pytest.raises(DataError, match="offers 1,000,000 bytes, expected 10"):
        fetch(f"{server.url}/x", tmp_path / "x", size=10)
    server.plan = [{"length": False}]
    with pytest.raises(DataError, match="more than the 10 bytes"):
        fetch(f"{server.url}/x", tmp_path / "x", size=10)
    server.plan = [{"length": False}]
    (tmp_path / "y.part").unlink(missing_ok=True)
    with pytest.raises(DataError, match="1,000,000 bytes, expected 1,000,001"):
        fetch(f"{server.url}/x", tmp_path / "y", size=1_000_001)


def test_a_missing_page_is_said_at_once(server, tmp_path):
    with pytest.raises(ResourceError, match="404"):
        fetch(f"{server.url}/missing", tmp_path / "x")
    assert len(server.asked) == 1


def test_a_server_that_never_gets_well_is_given_up(server, tmp_path):
    server.plan = [{"status": 503}] * 9
    with pytest.raises(ResourceError, match="no connection after 3 attempts") as error:
        fetch(f"{server.url}/x", tmp_path / "x", retries=2, **QUICK)
    assert len(server.asked) == 3 and str(tmp_path / "x") in error.value.cure


def test_no_server_at_all_is_an_error_of_the_network(server, tmp_path):
    with pytest.raises(ResourceError, match="no connection"):
        fetch("http://127.0.0.1:1/x", tmp_path / "x", retries=1, **QUICK)


def test_a_redirection_is_followed_but_never_to_a_file(server, tmp_path):
    server.target = f"{server.url}/x"
    fetch(f"{server.url}/moved", tmp_path / "x", sha256=SHA256)
    secret = tmp_path / "secret"
    secret.write_text("secret", encoding="utf-8")
    for target in (secret.as_uri(), "ftp://127.0.0.1/x", "data:text/plain,hello"):
        server.target = target
        with pytest.raises(ResourceError):
            fetch(f"{server.url}/moved", tmp_path / "y", retries=0, **QUICK)
        assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "x", "data:,x"])
def test_only_the_web_is_fetched(tmp_path, url):
    with pytest.raises(OptionError, match="http or https"):
        fetch(url, tmp_path / "x")


def test_offline_refuses_before_any_connection(server, tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    with pytest.raises(ResourceError, match="THALWEG_OFFLINE") as error:
        fetch(f"{server.url}/x", tmp_path / "x")
    assert not server.asked and str(tmp_path / "x") in error.value.cure
    assert is_offline()
    monkeypatch.setenv("THALWEG_OFFLINE", "0")
    assert not is_offline()


def test_too_little_room_is_refused_before_writing(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 5000})
    monkeypatch.setattr(thalweg.io.download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match="1,000,000 bytes are needed, 5,000 are free"):
        fetch(f"{server.url}/x", tmp_path / "x")
    assert not (tmp_path / "x.part").exists()


@pytest.mark.parametrize("number, told", [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be written")])
def test_an_error_of_the_disk_is_said_as_such(server, tmp_path, monkeypatch, number, told):
    def fail(part, to):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(thalweg.io.download, "_publish", fail)
    with pytest.raises(ResourceError, match=told) as error:
        fetch(f"{server.url}/x", tmp_path / "x")
    assert "THALWEG_CACHE" in error.value.cure


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot be written"):
        fetch(f"{server.url}/x", tmp_path / "file" / "x")


def test_a_folder_for_which_there_is_no_room_is_an_error_of_the_disk(server, tmp_path, monkeypatch):
    def full(path, **choices):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        fetch(f"{server.url}/x", tmp_path / "deep" / "deeper" / "x")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_can_be_used(server, tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256).read_bytes() == CONTENT


def test_of_two_processes_one_downloads_and_both_have_the_file(server, tmp_path):
    server.may_go_on.clear()
    code = (
        "import sys; from pathlib import Path; from thalweg.io.download import fetch;"
        "fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], notice=lambda m: print(m, flush=True))"
    )
    command = [sys.executable, "-c", code, f"{server.url}/x", str(tmp_path / "x"), SHA256]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = queue.Queue()
    for process in running:
        threading.Thread(target=lambda p=process: [lines.put(line) for line in p.stdout], daemon=True).start()
    try:
        assert "another process is downloading it; waiting" in lines.get(timeout=60)
    finally:
        server.may_go_on.set()
    assert [process.wait(60) for process in running] == [0, 0]
    assert len(server.asked) == 1 and left(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_the_cache_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("THALWEG_CACHE")
    assert cache_dir().name == "thalweg" or cache_dir().parent.name == "thalweg"
