"""Where pictures come from: paths, folders, patterns, addresses, bytes and arrays."""

from __future__ import annotations

import io
import socket
from urllib.error import URLError

import numpy as np
import pytest

from thalweg import predict
from thalweg.errors import DataError, ResourceError


def names(sources) -> list[str]:
    return [name for name, _ in predict.pictures(sources)]


def test_folders_and_patterns_are_opened_up_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [n.removeprefix(f"{tmp_path}/") for n in names(tmp_path)] == ["a.JPG", "b.png", "sub/c.gif"]
    assert [n.removeprefix(f"{tmp_path}/") for n in names(f"{tmp_path}/*.png")] == ["b.png"]
    assert names([str(tmp_path / "absent.png")]) == [str(tmp_path / "absent.png")]  # named later as unreadable
    assert names(f"{tmp_path}/*.bmp") == []


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    (tmp_path / "digit[1].png").write_bytes(b"")
    assert names(str(tmp_path / "digit[1].png")) == [str(tmp_path / "digit[1].png")]


def test_what_has_no_name_gets_a_number():
    assert names([b"bytes", np.zeros((2, 2))]) == ["-", "picture 1"]
    assert names(np.zeros((2, 2))) == ["picture 0"]
    with pytest.raises(DataError, match="int is no source"):
        names(3)


def test_only_what_is_named_as_an_address_is_fetched():
    assert predict.is_address("https://example.org/a.png") and predict.is_address("http://x")
    assert not any(map(predict.is_address, ("a.png", "ftp://x/a.png", "file:///etc/passwd", b"http://x", 3)))


def test_the_network_is_left_alone_where_it_is_not_to_be_used(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(ResourceError, match="not fetched"):
        predict.download("http://127.0.0.1/a.png", offline=True)
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    with pytest.raises(ResourceError, match="not fetched"):
        predict.download("http://127.0.0.1/a.png", offline=False)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{port}/a.png", "http://a b/c.png", "http://[::1/a.png", "http://"]
)
def test_an_address_that_cannot_be_fetched_is_named(address, free_port):
    address = address.format(port=free_port)
    with pytest.raises(ResourceError) as raised:
        predict.download(address, offline=False)
    assert address in raised.value.message


def test_an_address_may_not_send_without_end(monkeypatch):
    import urllib.request

    monkeypatch.setattr(predict, "MOST_BYTES", 10)
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(b"x" * 11))
    with pytest.raises(ResourceError, match="more than"):
        predict.download("http://127.0.0.1/", offline=False)
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(b"x" * 10))
    assert predict.download("http://127.0.0.1/", offline=False) == b"x" * 10

    def fails(address, timeout):
        raise URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", fails)
    with pytest.raises(ResourceError, match="no route"):
        predict.download("http://127.0.0.1/", offline=False)
