"""Several models asked about the same pictures: side by side, as CSV, as JSON; and pictures that cannot be read."""

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
from thalweg.cli import predictions as answers
from thalweg.data.images.synthetic import make_bars
from thalweg.inference.predict import Prediction, UnreadableImage
from thalweg.weights import store as weights


def answer(source: str, **chances: float) -> Prediction:
    probabilities = np.array(list(chances.values()))
    return Prediction(source, tuple(chances), probabilities, np.zeros((2, 2, 1), np.uint8))


ONE = [
    answer("a.png", cat=0.1, dog=0.9),
    UnreadableImage("b\x1b.png", "is cut off"),
    answer("c.png", cat=0.75, dog=0.25),
]
TWO = [answer("a.png", owl=0.2, cat=0.3, dog=0.5), ONE[1], answer("c.png", owl=0.5, cat=0.4, dog=0.1)]
BOTH = {"one": ONE, "runs/two": TWO}


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_table_has_a_column_for_each_model(capsys):
    assert answers.print_comparison(BOTH, "table", None) == 3
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
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
    assert shown.err.splitlines() == [
        "unreadable: b\\x1b.png: is cut off",
        "1 of the sources could not be read.",
    ]


def test_csv_has_a_line_for_each_model_and_all_lines_are_as_long(capsys):
    assert answers.print_comparison(BOTH, "csv", 3) == 3
    head, *lines = rows(capsys.readouterr().out)
    ranked = [f"{name}_{rank}" for rank in (1, 2, 3) for name in ("label", "probability")]
    assert head == ["source", "model", "label", *ranked]
    assert lines == [
        ["a.png", "one", "dog", "dog", "0.9", "cat", "0.1", "", ""],
        ["a.png", "runs/two", "dog", "dog", "0.5", "cat", "0.3", "owl", "0.2"],
        ["c.png", "one", "cat", "cat", "0.75", "dog", "0.25", "", ""],
        ["c.png", "runs/two", "owl", "owl", "0.5", "cat", "0.4", "dog", "0.1"],
    ]


def test_json_has_an_object_for_each_model(capsys):
    assert answers.print_comparison(BOTH, "json", None) == 3
    found = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    assert [(one["source"], one["model"], one["label"]) for one in found] == [
        ("a.png", "one", "dog"),
        ("a.png", "runs/two", "dog"),
        ("c.png", "one", "cat"),
        ("c.png", "runs/two", "owl"),
    ]
    assert found[1]["top"][2] == {"label": "owl", "probability": 0.2}


def test_csv_has_its_headings_also_where_the_first_source_is_unreadable(capsys):
    answers.print_comparison({"one": ONE[1:], "two": TWO[1:]}, "csv", 1)
    assert rows(capsys.readouterr().out) == [
        ["source", "model", "label", "label_1", "probability_1"],
        ["c.png", "one", "cat", "cat", "0.75"],
        ["c.png", "two", "owl", "owl", "0.5"],
    ]


def test_where_nothing_can_be_read_nothing_is_on_standard_output(capsys):
    for form in ("table", "csv", "json"):
        assert answers.print_comparison({"one": ONE[1:2], "two": TWO[1:2]}, form, None) == 3
        assert not capsys.readouterr().out


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("first", [True, False])
def test_what_one_model_cannot_read_the_others_answer(form, first, capsys):
    models = {"blind": [UnreadableImage("a.png", "no stroke")], "sharp": ONE[:1]}
    assert answers.print_comparison(models if first else dict(reversed(models.items())), form, None) == 3
    shown = capsys.readouterr()
    assert "unreadable by blind: a.png: no stroke" in shown.err and "1 of the sources" in shown.err
    assert "0.9" in shown.out and "sharp" in shown.out and "blind" not in shown.out


def test_different_reasons_are_told_by_model(capsys):
    answers.print_comparison(
        {"one": [UnreadableImage("a", "no stroke")], "two": [UnreadableImage("a", "no colour")]}, "table", None
    )
    assert capsys.readouterr().err.splitlines()[:2] == [
        "unreadable by one: a: no stroke",
        "unreadable by two: a: no colour",
    ]


def test_answers_are_shown_as_they_come(capsys):
    def slowly():
        yield ONE[0]
        assert "a.png" in capsys.readouterr().out
        yield ONE[2]

    answers.print_comparison({"one": slowly(), "two": iter([TWO[0], TWO[2]])}, "table", None)
    with pytest.raises(ValueError, match="shorter"):
        answers.print_comparison({"one": ONE, "two": TWO[:2]}, "table", None)


# --- from the command line -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that knows bars, and takes any picture."""
    out = tmp_path_factory.mktemp("runs") / "bars"
    return api.train("classify", make_bars(count=48), out=out, model="perceptron", epochs=1, report=False).path


@pytest.fixture
def pictures(tmp_path) -> list[str]:
    """A one, an empty page, a file that is cut off, and another one."""
    paths = [tmp_path / f"{name}.png" for name in ("one", "blank", "cut", "last")]
    for path in paths:
        page = Image.new("L", (60, 80), 255)
        if path.stem != "blank":
            ImageDraw.Draw(page).line([(30, 10), (30, 70)], fill=0, width=8)
        page.save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:50])
    return list(map(str, paths))


def test_models_are_named_with_commas(pictures, capsys):
    assert cli.invoke(["predict", "digits-lenet,digits-mlp", pictures[0], pictures[3], "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["model"], one["source"]) for one in found] == [
        (model, picture) for picture in (pictures[0], pictures[3]) for model in ("digits-lenet", "digits-mlp")
    ]
    for model in ("digits-lenet", "digits-mlp"):
        alone = [one.json() for one in api.load(model).predict([pictures[0], pictures[3]])]
        together = [{k: v for k, v in one.items() if k != "model"} for one in found if one["model"] == model]
        for one, other in zip(alone, together, strict=True):
            assert one["label"] == other["label"] == "1"
            assert [t["probability"] for t in one["top"]] == pytest.approx([t["probability"] for t in other["top"]])


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]], ids=str)
def test_sources_that_some_or_all_cannot_read_end_with_3_and_the_rest_is_answered(run, pictures, form, capsys):
    assert cli.invoke(["predict", f"digits-lenet,{run}", *pictures, "--top", "2", *form]) == 3
    shown = capsys.readouterr()
    assert f"unreadable by digits-lenet: {pictures[1]}: There is no stroke" in shown.err
    assert "2 of the sources could not be read." in shown.err and "Traceback" not in shown.err
    assert sum(f"{pictures[2]}: " in line for line in shown.err.splitlines()) >= 1
    assert [path in shown.out for path in pictures] == [True, True, False, True]
    if form == ["--csv"]:
        head, *lines = rows(shown.out)
        assert [(line[0], line[1]) for line in lines] == [
            (pictures[0], "digits-lenet"),
            (pictures[0], str(run)),
            (pictures[1], str(run)),
            (pictures[3], "digits-lenet"),
            (pictures[3], str(run)),
        ]
        assert {len(line) for line in [head, *lines]} == {7}


@pytest.mark.parametrize("names", ["resnet18,digits-mpl", "resnet18,lenet", "resnet18,", ",", "", " "])
def test_one_wrong_name_ends_before_anything_is_fetched_or_answered(names, pictures, monkeypatch, capsys):
    monkeypatch.setattr(weights, "ensure_downloaded", pytest.fail)
    assert cli.invoke(["predict", names, pictures[0]]) == 2
    shown = capsys.readouterr()
    assert not shown.out and "error: " in shown.err


@pytest.mark.parametrize("names", ["resnet18", "resnet18,resnet34"])
def test_nothing_is_fetched_where_there_is_no_picture(names, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(weights, "ensure_downloaded", pytest.fail)
    assert cli.invoke(["predict", names, str(tmp_path / "typo.png"), str(tmp_path / "*.jpg")]) == 3
    shown = capsys.readouterr()
    assert not shown.out and "typo.png: there is no such file" in shown.err and "*.jpg" in shown.err


def test_spaces_beside_a_comma_belong_to_no_name(pictures, capsys):
    assert cli.invoke(["predict", "digits-lenet, digits-mlp", pictures[0], "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_models_answer_the_same_pictures_though_the_folder_changes_meanwhile(pictures, capsys):
    folder = str(Path(pictures[0]).parent)
    assert cli.invoke(["predict", "digits-lenet,digits-mlp", folder, "--save", folder, "--json"]) == 3
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["source"] for one in found] == [path for path in sorted((pictures[0], pictures[3])) for _ in range(2)]


def test_an_address_is_fetched_once_for_all_models(pictures, monkeypatch, capsys):
    with serve_content(Path(pictures[0]).read_bytes(), monkeypatch) as server:
        addresses = [f"{server.url}/{number}.png" for number in range(3)]
        assert cli.invoke(["predict", "digits-lenet,digits-mlp", *addresses, "--json"]) == 0
        assert sorted(path for path, _ in server.requests) == ["/0.png", "/1.png", "/2.png"]
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_a_folder_with_a_comma_in_its_name_is_one_model(run, pictures, tmp_path, capsys):
    odd = run.rename(tmp_path / "a,b")
    assert cli.invoke(["predict", str(odd), pictures[0], "--json"]) == 0
    assert "model" not in json.loads(capsys.readouterr().out)
    odd.rename(run)
