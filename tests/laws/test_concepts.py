"""Laws for every registered concept: texts, settings, numbers, frames, pages and the command line."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

import thalweg
from thalweg import api, registry
from thalweg.cli import main as cli
from thalweg.concepts.base import CHAPTERS
from thalweg.config import parsing
from thalweg.errors import OptionError
from thalweg.inference.inputs import RUN_REQUIRED

CONCEPTS = registry.get_concepts()
NAMES = list(CONCEPTS)


@pytest.fixture(scope="session")
def run_path(tmp_path_factory):
    """A small run, for concepts that need one."""
    out = tmp_path_factory.mktemp("concepts") / "run"
    return thalweg.train("classify", "digits", model="lenet", epochs=2, cpu_threads=1, out=out, report=False).path


def test_concepts_are_listed_by_chapter_in_the_order_of_the_talk(capsys):
    assert cli.invoke(["explain"]) == 0
    output = capsys.readouterr().out
    positions = [re.search(rf"^  {name}  ", output, re.MULTILINE).start() for name in NAMES]
    assert positions == sorted(positions)
    chapters = [output.index(f"{chapter}\n") for chapter in CHAPTERS if f"{chapter}\n" in output]
    assert chapters == sorted(chapters)
    assert len(chapters) == len({concept.text.chapter for concept in CONCEPTS.values()})


@pytest.mark.parametrize("name", NAMES)
def test_the_text_has_a_chapter_a_body_formulas_and_a_source(name):
    text = CONCEPTS[name].text
    assert text.chapter in CHAPTERS
    assert text.title and text.source and text.formulas
    assert len(text.body.split()) >= 40
    assert not re.search(r"\b(TODO|simply|obviously)\b", text.body)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_says_at_least_two_things_to_look_for(name):
    assert len(CONCEPTS[name].text.look_for) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_the_text_has_two_exercises_with_a_command_and_a_question(name):
    exercises = CONCEPTS[name].text.exercises
    assert len(exercises) == 2
    for exercise in exercises:
        assert f"`thalweg explain {name}" in exercise
        assert "?" in exercise


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_exercises_use_settings_that_exist(name):
    concept = CONCEPTS[name]
    for exercise in concept.text.exercises:
        settings = dict(pair.split("=", 1) for pair in re.findall(r"--set ([\w-]+=[^\s`]+)", exercise))
        parsing.parse_options(settings, concept.settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_help_and_numbers_have_a_range(name):
    settings = CONCEPTS[name].settings
    ranges = parsing.option_ranges(settings)
    for key, field in parsing.option_fields(settings).items():
        assert field.help and field.help[0].islower(), key
        if {int, float} & set(parsing.union_members(field.kind)):
            assert key in ranges, f"{key} has no range"
    for key, allowed in ranges.items():
        with pytest.raises(OptionError):
            parsing.parse_options({key: allowed.high * 2 + 1}, settings)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_settings_are_rejected(name, capsys):
    assert cli.invoke(["explain", name, "--set", "no_such_thing=1"]) == 2
    assert "no_such_thing" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_a_concept_computes_draws_and_saves_what_it_shows(name, request, tmp_path, monkeypatch, capsys):
    """One test, because what a concept computes takes seconds and tests are spread over processes."""
    words = []
    if CONCEPTS[name].input_kind in RUN_REQUIRED:
        words = [request.getfixturevalue("run_path")]
    rendered = thalweg.explain(name, *words)
    check_numbers(rendered)
    check_frames(rendered.result)
    check_files(with_few_frames(rendered), tmp_path)
    check_command_line(name, list(map(str, words)), rendered.result, monkeypatch, tmp_path)
    output = capsys.readouterr().out
    assert output.endswith(f"explained/{name}.png\n") and "Look for:" in output


def check_numbers(rendered):
    text = json.dumps(rendered.json(), allow_nan=False)
    assert len(text) < 20_000_000
    assert {"concept", "settings", "numbers", "frames"} <= set(json.loads(text))
    assert rendered.result.numbers and rendered.result.key_numbers


def check_frames(result):
    """Frames have captions and one size, and nothing is cut off."""
    assert 1 <= len(result.frames) <= 60
    for frame in result.frames:
        assert frame.caption.endswith((".", "?", "!")) and len(frame.caption) <= 300
    images = [frame.draw() for frame in (result.frames[0], result.frames[result.key_frame], result.frames[-1])]
    assert len({image.size for image in images}) == 1
    for image in images:
        assert image.mode == "RGB" and 600 <= image.width <= 1800 and image.height <= 2400
        gray_HW = np.asarray(image.convert("L"))
        assert gray_HW.std() > 5, "blank"
        for edge in (gray_HW[0], gray_HW[-1], gray_HW[:, 0], gray_HW[:, -1]):
            assert (edge > 250).all(), "cut off at an edge"


def with_few_frames(rendered):
    """Keep some of the frames, because all take long to draw; what pages do with many has tests of its own."""
    frames = rendered.result.frames[:: max(1, len(rendered.result.frames) // 3)]
    return replace(rendered, result=replace(rendered.result, frames=frames, key_frame=-1))


def check_files(rendered, folder):
    svg = rendered.save(folder / "a.svg")
    assert ET.parse(svg).getroot().tag.endswith("svg")
    html = rendered.save(folder / "a.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 1_500_000
    assert not re.search(r"(src|href)=\"(?!data:|#)", html) and "url(" not in html
    assert html.count("<img ") == len(rendered.result.frames)
    assert ("<script>" in html) == (len(rendered.result.frames) > 1)


def check_command_line(name, words, result, monkeypatch, folder):
    """The command line saves the plot; the numbers are those that were computed already."""
    monkeypatch.chdir(folder)
    entry = replace(CONCEPTS[name], explain=lambda settings, **inputs: result)
    monkeypatch.setitem(registry._concepts, name, entry)
    assert cli.invoke(["explain", name, *words]) == 0
    with Image.open(folder / "explained" / f"{name}.png") as image:
        image.load()


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_frozen_dataclasses_with_valid_defaults(name):
    assert CONCEPTS[name].explain.__doc__
    settings = CONCEPTS[name].settings
    assert settings.__dataclass_params__.frozen
    defaults = {field.name: getattr(settings(), field.name) for field in fields(settings)}
    assert vars(parsing.parse_options(defaults, settings)).keys() == defaults.keys()


def test_an_unknown_name_suggests_a_concept(capsys):
    assert cli.invoke(["explain", "nueron"]) == 2
    assert "'neuron'" in capsys.readouterr().err
    assert api.is_concept("neuron") and not api.is_concept("lenet")
