"""The networks that come along read printed digits anywhere, and drawn ones where the pictures are at hand."""

from __future__ import annotations

import csv

import pytest
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

import thalweg
from thalweg import api

DIGITS = "0123456789"
#: right answers of each network at least: printed digits of a font; the talk's ten; all thirty-five drawn ones
ENOUGH = {"digits-lenet": (9, 10, 33), "digits-mlp": (9, 10, 33)}


def printed(font: str) -> list[Image.Image]:
    """The ten digits in dark blue on white, 160 by 200 pixels."""
    face = ImageFont.truetype(font_manager.findfont(font), 120)
    pages = []
    for digit in DIGITS:
        page = Image.new("RGB", (160, 200), "white")
        ImageDraw.Draw(page).text((80, 100), digit, font=face, fill=(20, 20, 120), anchor="mm")
        pages.append(page)
    return pages


def test_what_comes_along_is_what_is_tested_here():
    assert set(api.shipped()) == set(ENOUGH)


@pytest.mark.parametrize("font", ["DejaVu Sans", "DejaVu Sans Mono", "STIXGeneral"])
@pytest.mark.parametrize("name", ENOUGH)
def test_printed_digits_are_read(name, font):
    answers = [answer.label for answer in thalweg.load(name).predict(printed(font))]
    assert sum(a == d for a, d in zip(answers, DIGITS, strict=True)) >= ENOUGH[name][0], answers


@pytest.mark.parametrize("name", ENOUGH)
def test_its_run_tells_how_it_was_made_and_names_no_place(name):
    run = thalweg.load(name)
    assert run.content["recipe"] == name and name in thalweg.recipes
    assert run.results["test"]["examples"] == 10_000
    text = (run.path / "run.json").read_text(encoding="utf-8")
    assert not any(place in text for place in ("/home", "/root", "/tmp", "/Users", "C:\\"))


@pytest.mark.parametrize("name", ENOUGH)
def test_drawn_digits_that_it_never_saw_are_read(name, real_data):
    folder = real_data / "handdrawn"
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        truth = {row[0].split("/")[-1]: row[1] for row in csv.reader(file) if row[0].endswith(".png")}
    answers = {n: a.label for n, a in zip(truth, thalweg.load(name).predict([folder / n for n in truth]), strict=True)}
    right = {n for n in truth if answers[n] == truth[n]}
    assert len(truth) == 35
    assert sum(n.startswith("paint28") for n in right) >= ENOUGH[name][1]
    assert len(right) >= ENOUGH[name][2], sorted(set(truth) - right)
