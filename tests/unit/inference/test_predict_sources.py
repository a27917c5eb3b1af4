"""Where pictures come from: paths, folders, patterns, addresses, bytes and arrays."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.http_servers import serve_content
from thalweg.data.images.image_decoding import EXTENSIONS
from thalweg.errors import DataError, NonFiniteError, OptionError, ResourceError
from thalweg.inference import predict
from thalweg.inference.predict import Prediction, RemoteImage, UnreadableImage


def names(sources) -> list[str]:
    return [name for name, _ in predict.iter_sources(sources)]


def asked(sources, answer: float = 1.0, **choices) -> list[Prediction | UnreadableImage]:
    """The answers of a network that sees pictures as they are and answers always the same."""
    return list(
        predict.predict_images(
            sources,
            see=lambda source: np.asarray(Image.open(source))[..., None],
            ask=lambda images: torch.full((len(images), 2), answer),
            classes=("cat", "dog"),
            **choices,
        )
    )


def picture(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (4, 4), 100).save(path)
    return path


def test_folders_and_patterns_are_opened_up_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [n.removeprefix(f"{tmp_path}/") for n in names(tmp_path)] == ["a.JPG", "b.png", "sub/c.gif"]
    assert [n.removeprefix(f"{tmp_path}/") for n in names(f"{tmp_path}/*.png")] == ["b.png"]
    assert names([str(tmp_path / "absent.png")]) == [str(tmp_path / "absent.png")]  # named later as unreadable


def test_a_folder_is_read_whatever_the_pictures_in_it_are_called(tmp_path):
    for ending in EXTENSIONS:
        (tmp_path / f"a{ending}").touch()
    assert len(names(tmp_path)) == len(EXTENSIONS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_what_is_no_file_in_a_folder_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "to nowhere.png").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == [str(tmp_path / "to nowhere.png")]


def test_a_source_without_pictures_is_named_and_the_others_are_answered(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").touch()
    sources = ["empty", "a.png", "typo*.jpg", "b.png", "x" * 5000 + ".png", "nul\0.png"]
    found = list(predict.iter_sources([f"{tmp_path}/{source}" for source in sources]))
    assert [name for name, _ in found] == [f"{tmp_path}/{source}" for source in sources]
    told = [one.content.reason if isinstance(one.content, UnreadableImage) else "" for one in found]
    assert told[:4] == ["there is no picture in it", "", "there is no such file", "there is no such file"]
    assert "too long" in told[4] and "null" in told[5]


def test_a_folder_that_may_not_be_entered_stops_nothing(tmp_path, monkeypatch):
    honest = os.stat

    def refusing(path, **choices):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path, **choices)

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(predict.os, "stat", refusing)
    locked, fine = predict.iter_sources([f"{tmp_path}/locked/a.png", f"{tmp_path}/a.png"])
    assert "may not be read" in locked.content.reason and fine.content == tmp_path / "a.png"


def test_a_folder_in_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """As root everything may be read, so the system's own refusal is made up here."""
    honest = os.scandir

    def refusing(path):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    for folder in ("fine", "locked"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    monkeypatch.setattr(predict.os, "scandir", refusing)
    fine, locked = predict.iter_sources(str(tmp_path))
    assert fine.content == tmp_path / "fine" / "a.png"
    assert locked.name == str(tmp_path / "locked") and "may not be read" in locked.content.reason
    (only,) = predict.iter_sources(str(tmp_path / "locked"))
    assert "may not be read" in only.content.reason


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(OptionError, match="source is empty"):
        names([""])


def test_what_was_found_can_be_given_again(tmp_path):
    (tmp_path / "a.png").touch()
    found = list(predict.iter_sources([str(tmp_path), "http://x/a.png", b"bytes", np.zeros((2, 2))]))
    assert list(predict.iter_sources(found)) == found


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    (tmp_path / "digit[1].png").write_bytes(b"")
    assert names(str(tmp_path / "digit[1].png")) == [str(tmp_path / "digit[1].png")]


def test_what_has_no_name_gets_a_number():
    assert names([b"bytes", np.zeros((2, 2))]) == ["-", "picture 1"]
    assert names(np.zeros((2, 2))) == ["picture 0"]


@pytest.mark.parametrize("source", [None, 3, [3], [None], [torch.zeros(2, 2)], "open", ["open"]], ids=str)
def test_what_can_be_no_source_is_refused_by_its_type(source, tmp_path):
    (tmp_path / "a.png").touch()
    with (tmp_path / "a.png").open("rb") as file:
        source = {"open": file}.get(source, source) if isinstance(source, str) else source
        source = [file] if source == ["open"] else source
        kind = type(source[0] if isinstance(source, list) else source).__name__
        with pytest.raises(DataError, match=f"{kind} is no kind of source") as error:
            names(source)
    assert "an array" in error.value.cure


def test_only_what_is_named_as_an_address_is_fetched():
    assert all(map(predict.is_url, ("https://example.org/a.png", "http://x", "HTTP://x")))
    assert not any(map(predict.is_url, ("a.png", "ftp://x/a.png", "file:///etc/passwd", b"http://x", 3)))


def test_the_network_is_left_alone_where_it_is_not_to_be_used(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(ResourceError, match="not fetched"):
        predict.download("http://127.0.0.1/a.png", offline=True)
    for forbidden in ("1", "true", "yes", "TRUE"):
        monkeypatch.setenv("THALWEG_OFFLINE", forbidden)
        with pytest.raises(ResourceError, match="not fetched"):
            predict.download("http://127.0.0.1/a.png", offline=False)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{port}/a.png", "http://a b/c.png", "http://[::1/a.png", "http://"]
)
def test_an_address_that_cannot_be_fetched_is_named_once_and_has_a_cure(address, free_port):
    address = address.format(port=free_port)
    (found,) = asked([address])
    assert found.source == address and address not in found.reason
    assert found.reason.startswith("It could not be fetched: ") and found.reason.endswith("and the network.")


def test_an_address_is_fetched_once_for_all_its_readers(monkeypatch):
    with serve_content(b"a picture", monkeypatch) as server:
        (one,) = predict.iter_sources(f"{server.url}/a.png", readers=2)
        assert [one.read(), one.read()] == [b"a picture"] * 2 and len(server.requests) == 1
        server.faults = [{"status": 404}]
        address = RemoteImage(f"{server.url}/b.png", readers=2)
        for _ in range(2):
            with pytest.raises(ResourceError, match="404"):
                address.read(offline=False)
        assert len(server.requests) == 2
        assert address.read(offline=False) == b"a picture", "nothing is kept for nobody"


def test_an_address_may_not_send_without_end(monkeypatch):
    import urllib.request

    monkeypatch.setattr(predict, "MAX_BYTES", 10)
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


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_answer_that_is_no_number_is_no_answer(tmp_path, number):
    with pytest.raises(NonFiniteError, match=r"a\.png: the network's answer is not a number"):
        asked(picture(tmp_path / "a.png"), number)


def test_saved_pictures_overwrite_nothing(tmp_path):
    first, second = picture(tmp_path / "a.jpg"), picture(tmp_path / "a-seen.png")
    before = second.read_bytes()
    asked([first], save=tmp_path)
    assert second.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a-seen.png", "a-2.png", "a-2-seen.png"}


def test_every_answer_is_saved_whatever_the_pictures_are_called(tmp_path):
    sources = [picture(tmp_path / "in" / name) for name in ("a-seen.png", "a.jpg", "a.png")]
    asked(sources, save=tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(sources)


@pytest.mark.parametrize("place", ["file", "file/x"])
def test_a_place_where_nothing_can_be_saved_is_an_error_of_the_disk(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="Could not write"):
        asked(picture(tmp_path / "a.png"), save=tmp_path / place)
