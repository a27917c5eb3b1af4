"""What holds for every concept that can be explained: a new file in explain/ is held to it from its first day."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

import thalweg
from thalweg import api, registry
from thalweg.cli import main as cli
from thalweg.concepts.base import CHAPTERS
from thalweg.config import options
from thalweg.errors import OptionError
from thalweg.inference.inputs import RUN_REQUIRED

NAMES = list(registry.get_concepts())


@pytest.fixture(scope="session")
def run_of_digits(tmp_path_factory):
    """A small run, for concepts that are about one."""
    out = tmp_path_factory.mktemp("concepts") / "run"
    return thalweg.train("classify", "digits", model="lenet", epochs=2, threads=1, out=out, report=False).path


@pytest.fixture(scope="session")
def shown(run_of_digits):
    """Every concept with its defaults, computed once each."""
    kept = {}

    def one(name):
        if name not in kept:
            words = [run_of_digits] if registry.get_concepts()[name].subject in RUN_REQUIRED else []
            kept[name] = thalweg.explain(name, *words)
        return kept[name]

    return one


def test_the_concepts_are_listed_by_chapter_in_the_order_of_the_talk(capsys):
    assert cli.invoke(["explain"]) == 0
    told = capsys.readouterr().out
    places = [re.search(rf"^  {name}  ", told, re.MULTILINE).start() for name in NAMES]
    assert places == sorted(places)
    chapters = [told.index(f"{chapter}\n") for chapter in CHAPTERS if f"{chapter}\n" in told]
    assert chapters == sorted(chapters) and len(chapters) == len(
        {e.page.chapter for e in registry.get_concepts().values()}
    )


@pytest.mark.parametrize("name", NAMES)
def test_its_page_says_what_it_is_what_to_look_for_and_where_it_comes_from(name):
    page = registry.get_concepts()[name].page
    assert page.chapter in CHAPTERS and page.title and page.source and len(page.look_for) >= 2
    assert len(page.body.split()) >= 40 and page.formulas
    assert not re.search(r"\b(TODO|simply|obviously)\b", page.body)


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_have_help_and_ranges_and_wrong_ones_are_refused(name, capsys):
    entry = registry.get_concepts()[name]
    ranges = options.option_ranges(entry.settings)
    for key, (kind, about, _) in options.option_fields(entry.settings).items():
        assert about and about[0].islower(), key
        if {int, float} & set(options.union_members(kind)):
            assert key in ranges, f"{key} has no range"
    assert cli.invoke(["explain", name, "--set", "no_such_thing=1"]) == 2
    assert "no_such_thing" in capsys.readouterr().err
    for key, allowed in ranges.items():
        with pytest.raises(OptionError, match=key.replace("_", "-")):
            options.parse_options({key: allowed.high * 2 + 1}, entry.settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_json_and_the_same_again(name, shown):
    found = shown(name)
    text = json.dumps(found.json(), allow_nan=False)
    assert len(text) < 20_000_000
    assert {"concept", "settings", "numbers", "frames"} <= set(json.loads(text)) and found.result.numbers
    again = registry.get_concepts()[name].explain
    assert again.__doc__ and found.result.key_numbers


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_has_its_caption_and_the_size_of_the_others(name, shown):
    frames = shown(name).result.frames
    assert 1 <= len(frames) <= 60
    assert all(frame.caption.endswith((".", "?", "!")) and len(frame.caption) <= 300 for frame in frames)
    some = [frames[0], frames[shown(name).result.key_frame], frames[-1]]
    drawn = [frame.draw() for frame in some]
    assert len({image.size for image in drawn}) == 1
    for image in drawn:
        assert image.mode == "RGB" and 600 <= image.width <= 1800 and image.height <= 2400
        grey = np.asarray(image.convert("L"))
        assert grey.std() > 5, "blank"
        for edge in (grey[0], grey[-1], grey[:, 0], grey[:, -1]):
            assert (edge > 250).all(), "something is cut off at an edge"


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_kept_as_a_vector_picture_and_as_a_page(name, shown, tmp_path):
    found = shown(name)
    svg = found.save(tmp_path / "a.svg")
    assert ET.parse(svg).getroot().tag.endswith("svg")
    page = found.save(tmp_path / "a.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 1_500_000
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "url(" not in page
    assert page.count("<img ") == len(found.result.frames)
    assert ("<script>" in page) == (len(found.result.frames) > 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_draws_it_and_tells_its_figures(name, run_of_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [str(run_of_digits)] if registry.get_concepts()[name].subject in RUN_REQUIRED else []
    assert cli.invoke(["explain", name, *words]) == 0
    told = capsys.readouterr().out
    assert told.endswith(f"explained/{name}.png\n") and "Look for:" in told
    with Image.open(tmp_path / "explained" / f"{name}.png") as image:
        image.load()


def test_settings_are_dataclasses_whose_defaults_may_not_be_changed():
    for entry in registry.get_concepts().values():
        assert entry.settings.__dataclass_params__.frozen
        made = options.parse_options(
            {field.name: getattr(entry.settings(), field.name) for field in fields(entry.settings)}, entry.settings
        )
        assert vars(made).keys() == vars(entry.settings()).keys()


def test_what_is_neither_a_concept_nor_a_model_is_told_both(capsys):
    assert cli.invoke(["explain", "nueron"]) == 2
    assert "'neuron'" in capsys.readouterr().err
    assert api.is_concept("neuron") and not api.is_concept("lenet")
