"""Sources of predictions: paths, folders, patterns, URLs, bytes, texts and arrays; and predictions that are saved."""

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
from torch import Tensor, nn

from tests.helpers.http_servers import serve_content
from thalweg.data.images.image_decoding import EXTENSIONS
from thalweg.data.images.input_spec import InputSpec
from thalweg.errors import DataError, NonFiniteError, OptionError, ResourceError
from thalweg.inference import sources
from thalweg.inference.predict import Predictor
from thalweg.inference.sources import RemoteFile, Source
from thalweg.predictions.base import Prediction, UnreadableSource
from thalweg.tasks.base import InputType
from thalweg.tasks.classify import Classify

SPEC = InputSpec(classes=["cat", "dog"], channels=1, size=[4, 4], mean=[0.5], std=[0.5])


class Constant(nn.Module):
    """A model that returns the same logit for every class."""

    def __init__(self, logit: float):
        super().__init__()
        self.logit = logit

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 2), self.logit)


def iter_images(words) -> list[Source]:
    return list(sources.iter_sources(words, InputType.IMAGE))


def list_names(words, input_type: InputType = InputType.IMAGE) -> list[str]:
    return [source.name for source in sources.iter_sources(words, input_type)]


def predict(words, logit: float = 1.0, **options) -> list[Prediction | UnreadableSource]:
    task = Classify()
    predictor = Predictor(task, Constant(logit), SPEC, task.PredictOptions(), 2, **options)
    return list(predictor(sources.iter_sources(words, InputType.IMAGE)))


def save_image(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (4, 4), 100).save(path)
    return path


def test_folders_and_patterns_are_expanded_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [n.removeprefix(f"{tmp_path}/") for n in list_names(tmp_path)] == ["a.JPG", "b.png", "sub/c.gif"]
    assert [n.removeprefix(f"{tmp_path}/") for n in list_names(f"{tmp_path}/*.png")] == ["b.png"]
    assert list_names([str(tmp_path / "absent.png")]) == [str(tmp_path / "absent.png")]


@pytest.mark.parametrize("input_type", list(InputType))
def test_every_kind_of_source_has_its_file_endings(tmp_path, input_type):
    suffixes = sources.SUFFIXES[input_type]
    for suffix in [*suffixes, ".other"]:
        (tmp_path / f"a{suffix}").touch()
    assert len(list_names(str(tmp_path), input_type)) == len(suffixes)
    if input_type is InputType.IMAGE:
        assert suffixes == set(EXTENSIONS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_folders_are_skipped_and_broken_links_are_reported(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "to nowhere.png").symlink_to(tmp_path / "nowhere")
    assert list_names(tmp_path) == [str(tmp_path / "to nowhere.png")]


def test_a_source_without_images_is_unreadable_and_the_others_are_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").touch()
    words = [f"{tmp_path}/{name}" for name in ("empty", "a.png", "typo*.jpg", "b.png", "x" * 5000, "nul\0.png")]
    found = iter_images(words)
    assert [source.name for source in found] == words
    assert [isinstance(source.content, UnreadableSource) for source in found] == [True, False, True, True, True, True]
    reasons = [source.content.reason for source in found if isinstance(source.content, UnreadableSource)]
    assert all(reasons) and len({reasons[0], reasons[1], reasons[3], reasons[4]}) == 4
    with pytest.raises(DataError) as error:
        found[0].read()
    assert error.value.message == reasons[0]


def test_a_folder_without_permission_stops_nothing(tmp_path, monkeypatch):
    honest = os.stat

    def refuse(path, **options):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path, **options)

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(sources.os, "stat", refuse)
    locked, readable = iter_images([f"{tmp_path}/locked/a.png", f"{tmp_path}/a.png"])
    assert "permission" in locked.content.reason and readable.content == tmp_path / "a.png"


def test_a_subfolder_without_permission_is_reported(tmp_path, monkeypatch):
    """Root may read everything, so the system's refusal is simulated."""
    honest = os.scandir

    def refuse(path):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    for folder in ("readable", "locked"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    monkeypatch.setattr(sources.os, "scandir", refuse)
    readable, locked = iter_images(str(tmp_path))
    assert readable.content == tmp_path / "readable" / "a.png"
    assert locked.name == str(tmp_path / "locked") and "permission" in locked.content.reason
    (only,) = iter_images(str(tmp_path / "locked"))
    assert "permission" in only.content.reason


@pytest.mark.parametrize("input_type", [InputType.IMAGE, InputType.TEXT])
def test_an_empty_name_is_not_the_current_folder(input_type):
    with pytest.raises(OptionError) as error:
        list_names([""], input_type)
    assert (error.value.option, error.value.value) == ("source", "")


def test_sources_can_be_given_again(tmp_path):
    (tmp_path / "a.png").touch()
    found = iter_images([str(tmp_path), "http://x/a.png", b"bytes", np.zeros((2, 2)), torch.zeros(2, 2)])
    assert iter_images(found) == found


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    (tmp_path / "digit[1].png").write_bytes(b"")
    assert list_names(str(tmp_path / "digit[1].png")) == [str(tmp_path / "digit[1].png")]


def test_nameless_sources_are_numbered():
    assert list_names([b"bytes", np.zeros((2, 2)), Image.new("L", (2, 2))]) == ["-", "image 1", "image 2"]
    assert list_names(torch.zeros(2, 2)) == ["image 0"]


def test_texts_are_files_patterns_or_the_words_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.md", "c.png"):
        Path(name).write_text(name, encoding="utf-8")

    def find(*words: str) -> list[object]:
        return [source.content for source in sources.iter_sources(words, InputType.TEXT)]

    assert find("a.txt") == [Path("a.txt")] and find("*.txt") == [Path("a.txt")]
    assert find(".") == [Path("a.txt"), Path("b.md")]
    assert find("to be or not to be", "word") == ["to be or not to be", "word"]
    assert find("what [is] this?") == ["what [is] this?"]
    for lost in ("lost.txt", "folder/lost", "*.tex"):
        assert isinstance(find(lost)[0], UnreadableSource), "a misspelled file is not a text"
    (source,) = sources.iter_sources("x" * 300, InputType.TEXT)
    assert len(source.name) <= 40 and source.read() == "x" * 300


@pytest.mark.parametrize("word", [None, 3, [3], [None], "open", ["open"]], ids=str)
def test_what_cannot_be_a_source_is_rejected_with_its_type(word, tmp_path):
    (tmp_path / "a.png").touch()
    with (tmp_path / "a.png").open("rb") as file:
        word = {"open": file}.get(word, word) if isinstance(word, str) else word
        word = [file] if word == ["open"] else word
        with pytest.raises(DataError) as error:
            list_names(word)
    assert error.value.value == type(word[0] if isinstance(word, list) else word).__name__


def test_only_http_addresses_are_urls():
    assert all(map(sources.is_url, ("https://example.org/a.png", "http://x", "HTTP://x")))
    assert not any(map(sources.is_url, ("a.png", "ftp://x/a.png", "file:///etc/passwd", b"http://x", 3)))


def test_offline_means_no_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(ResourceError):
        sources.download("http://127.0.0.1/a.png", offline=True)
    for value in ("1", "true", "yes", "TRUE"):
        monkeypatch.setenv("THALWEG_OFFLINE", value)
        with pytest.raises(ResourceError):
            sources.download("http://127.0.0.1/a.png", offline=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/a.png", "http://a b/c.png", "http://[::1/a.png", "http://"])
def test_an_unreachable_url_is_an_unreadable_source(url, free_port):
    url = url.format(port=free_port)
    (prediction,) = predict([url])
    assert isinstance(prediction, UnreadableSource)
    assert prediction.source == url and url not in prediction.reason


def test_a_url_is_fetched_once_for_all_models(monkeypatch):
    with serve_content(b"an image", monkeypatch) as server:
        (source,) = sources.iter_sources(f"{server.url}/a.png", InputType.IMAGE, num_models=2)
        assert [source.read(), source.read()] == [b"an image"] * 2 and len(server.requests) == 1
        server.faults = [{"status": 404}]
        remote = RemoteFile(f"{server.url}/b.png", num_models=2)
        for _ in range(2):
            with pytest.raises(ResourceError, match="404"):
                remote.read(offline=False)
        assert len(server.requests) == 2
        assert remote.read(offline=False) == b"an image", "after the last model nothing is kept"


def test_a_url_may_not_send_without_end(monkeypatch):
    import urllib.request

    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"x" * 11))
    with pytest.raises(ResourceError):
        sources.download("http://127.0.0.1/", offline=False)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"x" * 10))
    assert sources.download("http://127.0.0.1/", offline=False) == b"x" * 10

    def fail(url, timeout):
        raise URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(ResourceError, match="no route"):
        sources.download("http://127.0.0.1/", offline=False)


# --- predictions -----------------------------------------------------------------------------------------------------


def test_no_sources_at_all_are_rejected():
    with pytest.raises(DataError) as error:
        predict([])
    assert set(error.value.allowed) == set(EXTENSIONS)


def test_predictions_come_in_the_order_of_their_sources(tmp_path):
    paths = [str(save_image(tmp_path / f"{name}.png")) for name in "cabde"]
    Path(paths[2]).write_bytes(b"broken")
    predictions = predict(paths)
    assert [prediction.source for prediction in predictions] == paths
    assert [bool(prediction) for prediction in predictions] == [True, True, False, True, True]


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
def test_probabilities_that_are_not_finite_are_an_error(tmp_path, logit):
    with pytest.raises(NonFiniteError, match=r"a\.png"):
        predict(save_image(tmp_path / "a.png"), logit)


def test_saved_predictions_overwrite_nothing(tmp_path):
    first = save_image(tmp_path / "a.jpg")
    second = save_image(tmp_path / "a-input.png")
    before = second.read_bytes()
    predict([first], save=tmp_path)
    assert second.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a-input.png", "a-2.png", "a-2-input.png"}


def test_every_prediction_is_saved_whatever_the_images_are_called(tmp_path):
    images = [save_image(tmp_path / "in" / name) for name in ("a-input.png", "a.jpg", "a.png", "ä ö:.png")]
    predict(images, save=tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(images)


@pytest.mark.parametrize("folder", ["file", "file/x"])
def test_a_folder_that_cannot_be_written_is_a_resource_error(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError) as error:
        predict(save_image(tmp_path / "a.png"), save=tmp_path / folder)
    assert error.value.cure and error.value.exit_code == 5
