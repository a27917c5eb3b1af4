"""Predictions of several models for the same images, side by side, as CSV and as JSON; and unreadable images."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.helpers.http_servers import serve_content
from thalweg import api
from thalweg.cli import main as cli
from thalweg.cli import predictions
from thalweg.data.images.synthetic import make_bars
from thalweg.predictions.base import UnreadableSource
from thalweg.predictions.label import LabelPrediction
from thalweg.weights import store


def predict_labels(source: str, top_k: int | None = None, **probabilities: float) -> LabelPrediction:
    values = np.array(list(probabilities.values()))
    return LabelPrediction(source, tuple(probabilities), values, np.zeros((2, 2, 1), np.uint8), top_k)


ONE = [
    predict_labels("a.png", cat=0.1, dog=0.9),
    UnreadableSource("b\x1b.png", "is cut off"),
    predict_labels("c.png", cat=0.75, dog=0.25),
]
TWO = [predict_labels("a.png", owl=0.2, cat=0.3, dog=0.5), ONE[1], predict_labels("c.png", owl=0.5, cat=0.4, dog=0.1)]
BOTH = {"one": ONE, "runs/two": TWO}


def read_csv(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_table_has_a_column_for_each_model(capsys):
    assert predictions.print_comparison(BOTH, "table") == 3
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "a.png",
        "  one         runs/two",
        "  0.900  dog  0.500  dog",
        "  0.100  cat  0.300  cat",
        "              0.200  owl",
        "c.png",
        "  one         runs/two",
        "  0.750  cat  0.500  owl",
        "  0.250  dog  0.400  cat",
        "              0.100  dog",
    ]
    assert "b\\x1b.png: is cut off" in captured.err.splitlines()[0]


def test_csv_has_a_line_per_model_and_all_lines_have_the_same_length(capsys):
    models = {
        "one": [predict_labels("a.png", 3, cat=0.1, dog=0.9), ONE[1], predict_labels("c.png", 3, cat=0.75, dog=0.25)],
        "runs/two": [
            predict_labels("a.png", 3, owl=0.2, cat=0.3, dog=0.5),
            ONE[1],
            predict_labels("c.png", 3, owl=0.5, cat=0.4, dog=0.1),
        ],
    }
    assert predictions.print_comparison(models, "csv") == 3
    header, *lines = read_csv(capsys.readouterr().out)
    ranked = [f"{name}_{rank}" for rank in (1, 2, 3) for name in ("label", "probability")]
    assert header == ["model", "source", "label", *ranked]
    assert lines == [
        ["one", "a.png", "dog", "dog", "0.9", "cat", "0.1", "", ""],
        ["runs/two", "a.png", "dog", "dog", "0.5", "cat", "0.3", "owl", "0.2"],
        ["one", "c.png", "cat", "cat", "0.75", "dog", "0.25", "", ""],
        ["runs/two", "c.png", "owl", "owl", "0.5", "cat", "0.4", "dog", "0.1"],
    ]


def test_json_has_an_object_for_each_model(capsys):
    assert predictions.print_comparison(BOTH, "json") == 3
    results = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    assert [(one["source"], one["model"], one["label"]) for one in results] == [
        ("a.png", "one", "dog"),
        ("a.png", "runs/two", "dog"),
        ("c.png", "one", "cat"),
        ("c.png", "runs/two", "owl"),
    ]
    assert results[1]["top"][2] == {"label": "owl", "probability": 0.2}


def test_csv_has_its_header_also_if_the_first_source_is_unreadable(capsys):
    one = predict_labels("c.png", 1, cat=0.75, dog=0.25)
    two = predict_labels("c.png", 1, owl=0.5, cat=0.4, dog=0.1)
    predictions.print_comparison({"one": [ONE[1], one], "two": [ONE[1], two]}, "csv")
    assert read_csv(capsys.readouterr().out) == [
        ["model", "source", "label", "label_1", "probability_1"],
        ["one", "c.png", "cat", "cat", "0.75"],
        ["two", "c.png", "owl", "owl", "0.5"],
    ]


def test_csv_has_the_columns_of_all_models(capsys):
    predictions.print_comparison(BOTH, "csv")
    header, *lines = read_csv(capsys.readouterr().out)
    assert header == ["model", "source", "label", "cat", "dog", "owl"]
    assert lines[:2] == [["one", "a.png", "dog", "0.1", "0.9", ""], ["runs/two", "a.png", "dog", "0.3", "0.5", "0.2"]]
    blind = {"blind": [UnreadableSource("a.png", "no stroke"), ONE[2]], "sharp": [TWO[0], TWO[2]]}
    predictions.print_comparison(blind, "csv")
    header, *lines = read_csv(capsys.readouterr().out)
    assert header == ["model", "source", "label", "owl", "cat", "dog"] and len(lines) == 3
    predictions.print_comparison({"blind": [blind["blind"][0]], "sharp": [TWO[0]]}, "csv")
    assert len(read_csv(capsys.readouterr().out)) == 2


def test_without_a_readable_source_there_is_no_result(capsys):
    for form in ("table", "csv", "json"):
        assert predictions.print_comparison({"one": ONE[1:2], "two": TWO[1:2]}, form) == 3
        assert not capsys.readouterr().out


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("first", [True, False])
def test_what_one_model_cannot_read_the_others_predict(form, first, capsys):
    models = {"blind": [UnreadableSource("a.png", "no stroke")], "sharp": ONE[:1]}
    assert predictions.print_comparison(models if first else dict(reversed(models.items())), form) == 3
    captured = capsys.readouterr()
    assert "blind: a.png: no stroke" in captured.err
    assert "0.9" in captured.out and "sharp" in captured.out and "blind" not in captured.out


def test_different_reasons_are_reported_by_model(capsys):
    predictions.print_comparison(
        {"one": [UnreadableSource("a", "no stroke")], "two": [UnreadableSource("a", "no color")]}, "table"
    )
    lines = capsys.readouterr().err.splitlines()
    assert "one: a: no stroke" in lines[0] and "two: a: no color" in lines[1]


def test_comparisons_are_printed_as_they_come(capsys):
    def predict_slowly():
        yield ONE[0]
        assert "a.png" in capsys.readouterr().out
        yield ONE[2]

    predictions.print_comparison({"one": predict_slowly(), "two": iter([TWO[0], TWO[2]])}, "table")
    with pytest.raises(ValueError):
        predictions.print_comparison({"one": ONE, "two": TWO[:2]}, "table")


# --- from the command line -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that was trained on bars, and reads any image."""
    out = tmp_path_factory.mktemp("runs") / "bars"
    return api.train("classify", make_bars(count=48), out=out, model="perceptron", epochs=1, report=False).path


@pytest.fixture
def images(tmp_path) -> list[str]:
    """A one, an empty page, a file that is cut off, and another one."""
    paths = [tmp_path / f"{name}.png" for name in ("one", "blank", "cut", "last")]
    for path in paths:
        page = Image.new("L", (60, 80), 255)
        if path.stem != "blank":
            ImageDraw.Draw(page).line([(30, 10), (30, 70)], fill=0, width=8)
        page.save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:50])
    return list(map(str, paths))


def test_models_are_named_with_commas(images, capsys):
    assert cli.invoke(["predict", "digits-lenet,digits-mlp", images[0], images[3], "--json"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["model"], one["source"]) for one in results] == [
        (model, image) for image in (images[0], images[3]) for model in ("digits-lenet", "digits-mlp")
    ]
    for model in ("digits-lenet", "digits-mlp"):
        alone = [one.json() for one in api.load(model).predict([images[0], images[3]])]
        together = [{k: v for k, v in one.items() if k != "model"} for one in results if one["model"] == model]
        for one, other in zip(alone, together, strict=True):
            assert one["label"] == other["label"] == "1"
            assert [t["probability"] for t in one["top"]] == pytest.approx([t["probability"] for t in other["top"]])


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]], ids=str)
def test_sources_that_some_or_all_cannot_read_are_3_and_the_rest_is_predicted(run, images, form, capsys):
    assert cli.invoke(["predict", f"digits-lenet,{run}", *images, "--top-k", "2", *form]) == 3
    captured = capsys.readouterr()
    assert f"digits-lenet: {images[1]}: " in captured.err and "Traceback" not in captured.err
    assert sum(f"{images[2]}: " in line for line in captured.err.splitlines()) >= 1
    assert [path in captured.out for path in images] == [True, True, False, True]
    if form == ["--csv"]:
        header, *lines = read_csv(captured.out)
        assert [(line[0], line[1]) for line in lines] == [
            ("digits-lenet", images[0]),
            (str(run), images[0]),
            (str(run), images[1]),
            ("digits-lenet", images[3]),
            (str(run), images[3]),
        ]
        assert {len(line) for line in [header, *lines]} == {7}


@pytest.mark.parametrize("names", ["resnet18,digits-mpl", "resnet18,lenet", "resnet18,", ",", "", " "])
def test_one_wrong_name_ends_before_anything_is_downloaded_or_predicted(names, images, monkeypatch, capsys):
    monkeypatch.setattr(store, "ensure_downloaded", pytest.fail)
    assert cli.invoke(["predict", names, images[0]]) == 2
    captured = capsys.readouterr()
    assert not captured.out and "error: " in captured.err


@pytest.mark.parametrize("names", ["resnet18", "resnet18,resnet34"])
def test_nothing_is_downloaded_without_an_image(names, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(store, "ensure_downloaded", pytest.fail)
    assert cli.invoke(["predict", names, str(tmp_path / "typo.png"), str(tmp_path / "*.jpg")]) == 3
    captured = capsys.readouterr()
    assert not captured.out and "typo.png" in captured.err and "*.jpg" in captured.err


def test_spaces_beside_a_comma_are_ignored(images, capsys):
    assert cli.invoke(["predict", "digits-lenet, digits-mlp", images[0], "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_models_read_the_same_images_though_the_folder_changes_meanwhile(images, capsys):
    folder = str(Path(images[0]).parent)
    assert cli.invoke(["predict", "digits-lenet,digits-mlp", folder, "--save", folder, "--json"]) == 3
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["source"] for one in results] == [path for path in sorted((images[0], images[3])) for _ in range(2)]


def test_a_url_is_fetched_once_for_all_models(images, monkeypatch, capsys):
    with serve_content(Path(images[0]).read_bytes(), monkeypatch) as server:
        urls = [f"{server.url}/{number}.png" for number in range(3)]
        assert cli.invoke(["predict", "digits-lenet,digits-mlp", *urls, "--json"]) == 0
        assert sorted(path for path, _ in server.requests) == ["/0.png", "/1.png", "/2.png"]
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_a_folder_with_a_comma_in_its_name_is_one_model(run, images, tmp_path, capsys):
    odd = run.rename(tmp_path / "a,b")
    assert cli.invoke(["predict", str(odd), images[0], "--json"]) == 0
    assert "model" not in json.loads(capsys.readouterr().out)
    odd.rename(run)
