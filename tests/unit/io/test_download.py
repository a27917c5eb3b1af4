"""Downloads from a server that breaks off, lies and forbids, as servers do."""

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
from thalweg.io.download import DownloadOptions, DownloadProgress, cache_dir, fetch, is_offline

CONTENT = np.random.default_rng(0).integers(0, 256, 1_000_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = DownloadOptions(pause=0.01)


@pytest.fixture
def server(monkeypatch):
    with serve_content(CONTENT, monkeypatch) as running:
        yield running


def file_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_arrives_complete_and_alone(server, tmp_path):
    calls = []
    path = fetch(
        f"{server.url}/x",
        tmp_path / "deep" / "x.bin",
        sha256=SHA256,
        progress=lambda done, total: calls.append((done, total)),
        options=DownloadOptions(md5=MD5, size=len(CONTENT)),
    )
    assert path.read_bytes() == CONTENT and file_names(tmp_path / "deep") == ["x.bin"]
    assert calls[-1] == (len(CONTENT), len(CONTENT)) and calls == sorted(calls)


def test_a_correct_file_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert not server.requests


def test_a_wrong_file_is_replaced(server, tmp_path):
    (tmp_path / "x").write_bytes(CONTENT[:-1] + b"?")
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_broken_transfer_resumes_where_it_broke(server, tmp_path):
    server.faults = [{"cut": 300_000}, {"status": 503}, {"cut": 200_000}]
    notices = []
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256, notice=notices.append, options=QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=300000-", "bytes=500000-"]
    assert len(notices) == 3 and "300,000 of 1,000,000 bytes" in notices[0]


def test_a_later_process_resumes_the_part_of_an_earlier_one(server, tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT[:400_000])
    fetch(f"{server.url}/x", tmp_path / "x", options=DownloadOptions(md5=MD5))
    assert server.requests == [("/x", "bytes=400000-")] and (tmp_path / "x").read_bytes() == CONTENT


def test_a_complete_part_is_renamed_without_a_download(server, tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT)
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT and file_names(tmp_path) == ["x"]


@pytest.mark.parametrize("part", [b"another file's beginning", CONTENT + b"and more"])
def test_a_part_of_another_file_is_deleted(server, tmp_path, part):
    (tmp_path / "x.part").write_bytes(part)
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256, options=QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_the_whole_file(server, tmp_path):
    server.ranges = False
    (tmp_path / "x.part").write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_another_range_than_requested_is_rejected(server, tmp_path):
    server.faults = [{"shift": 5}]
    (tmp_path / "x.part").write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256, options=QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_no_file(server, tmp_path):
    for checksums in ({"sha256": "0" * 64}, {"options": DownloadOptions(md5="0" * 32)}):
        with pytest.raises(DataError, match="expected 000") as error:
            fetch(f"{server.url}/x", tmp_path / "x", **checksums)
        assert error.value.path == tmp_path / "x"
        assert str(tmp_path / "x") in error.value.cure
        assert not [n for n in file_names(tmp_path) if not n.endswith(".lock")]


def test_a_prefix_of_a_checksum_is_enough_unless_it_is_too_short(server, tmp_path):
    fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256[:8].upper(), options=DownloadOptions(md5=MD5[:12]))
    assert (tmp_path / "x").read_bytes() == CONTENT
    with pytest.raises(DataError, match=f"is {SHA256}, expected {'0' * 8}…"):
        fetch(f"{server.url}/x", tmp_path / "y", sha256="0" * 8)
    for short in (SHA256[:7], "0"):
        with pytest.raises(OptionError) as error:
            fetch(f"{server.url}/x", tmp_path / "z", sha256=short)
        assert (error.value.option, error.value.value) == ("sha256", short)


def test_a_wrong_size_is_rejected_early(server, tmp_path):
    with pytest.raises(DataError) as error:
        fetch(f"{server.url}/x", tmp_path / "x", options=DownloadOptions(size=10))
    assert error.value.value == 1_000_000
    server.faults = [{"length": False}]
    with pytest.raises(DataError, match="more than the 10 bytes"):
        fetch(f"{server.url}/x", tmp_path / "x", options=DownloadOptions(size=10))
    server.faults = [{"length": False}]
    (tmp_path / "y.part").unlink(missing_ok=True)
    with pytest.raises(DataError, match="1,000,000 bytes, expected 1,000,001"):
        fetch(f"{server.url}/x", tmp_path / "y", options=DownloadOptions(size=1_000_001))


def test_a_missing_page_is_not_retried(server, tmp_path):
    with pytest.raises(ResourceError) as error:
        fetch(f"{server.url}/missing", tmp_path / "x")
    assert error.value.value == 404
    assert len(server.requests) == 1


def test_a_failing_server_is_given_up_after_the_retries(server, tmp_path):
    server.faults = [{"status": 503}] * 9
    with pytest.raises(ResourceError, match="no connection after 3 attempts") as error:
        fetch(f"{server.url}/x", tmp_path / "x", options=DownloadOptions(retries=2, pause=0.01))
    assert len(server.requests) == 3 and str(tmp_path / "x") in error.value.cure


def test_a_missing_server_is_a_network_error(server, tmp_path):
    with pytest.raises(ResourceError, match="no connection"):
        fetch("http://127.0.0.1:1/x", tmp_path / "x", options=DownloadOptions(retries=1, pause=0.01))


def test_redirects_are_followed_but_never_to_a_local_file(server, tmp_path):
    server.target = f"{server.url}/x"
    fetch(f"{server.url}/moved", tmp_path / "x", sha256=SHA256)
    secret = tmp_path / "secret"
    secret.write_text("secret", encoding="utf-8")
    for target in (secret.as_uri(), "ftp://127.0.0.1/x", "data:text/plain,hello"):
        server.target = target
        with pytest.raises(ResourceError):
            fetch(f"{server.url}/moved", tmp_path / "y", options=DownloadOptions(retries=0, pause=0.01))
        assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "x", "data:,x"])
def test_only_http_addresses_are_accepted(tmp_path, url):
    with pytest.raises(OptionError) as error:
        fetch(url, tmp_path / "x")
    assert error.value.value == url


def test_offline_makes_no_connection(server, tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    with pytest.raises(ResourceError, match="THALWEG_OFFLINE") as error:
        fetch(f"{server.url}/x", tmp_path / "x")
    assert not server.requests and str(tmp_path / "x") in error.value.cure
    assert is_offline()
    monkeypatch.setenv("THALWEG_OFFLINE", "0")
    assert not is_offline()


def test_too_little_disk_space_is_reported_before_writing(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 5000})
    monkeypatch.setattr(thalweg.io.download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match="1,000,000 bytes are needed, 5,000 are free"):
        fetch(f"{server.url}/x", tmp_path / "x")
    assert not (tmp_path / "x.part").exists()


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be written")]
)
def test_a_disk_error_is_reported_as_such(server, tmp_path, monkeypatch, number, reason):
    def fail(part, to):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(thalweg.io.download, "_publish", fail)
    with pytest.raises(ResourceError, match=reason) as error:
        fetch(f"{server.url}/x", tmp_path / "x")
    assert "THALWEG_CACHE" in error.value.cure


def test_a_folder_that_cannot_be_made_is_a_disk_error(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot be written"):
        fetch(f"{server.url}/x", tmp_path / "file" / "x")


def test_a_folder_without_disk_space_is_a_disk_error(server, tmp_path, monkeypatch):
    def full(path, **choices):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        fetch(f"{server.url}/x", tmp_path / "deep" / "deeper" / "x")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_can_be_used(server, tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert fetch(f"{server.url}/x", tmp_path / "x", sha256=SHA256).read_bytes() == CONTENT


def test_one_of_two_processes_downloads_and_both_get_the_file(server, tmp_path):
    server.may_send.clear()
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
        server.may_send.set()
    assert [process.wait(60) for process in running] == [0, 0]
    assert len(server.requests) == 1 and file_names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_the_cache_is_where_thalweg_cache_says(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("THALWEG_CACHE")
    assert cache_dir().name == "thalweg" or cache_dir().parent.name == "thalweg"


def test_progress_is_logged_for_every_tenth():
    lines = []
    progress = DownloadProgress("x.bin", 1000, lines.append)
    for done in range(0, 1001, 20):
        progress(done, None)
    assert len(lines) == 11 and lines[-1] == "x.bin: 1.0 kB of 1.0 kB"
