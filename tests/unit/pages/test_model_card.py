"""Model cards say what a model is, how good, and how to use and repeat it; every name stays text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from tests.helpers.records import PLOT, TEXT, VALUES, make_bare_record, make_record, replace_texts
from thalweg.data.base import UnreadableFile
from thalweg.pages import model_card
from thalweg.tasks.base import CardText
from thalweg.tasks.classify import Classify

HOSTILE = "<img src=x onerror=alert(1)>\"'&</style><script>alert(2)</script>\x00\udcff"


def render(record=None, plots=(PLOT,), text=TEXT):
    return model_card.render_card(record or make_record(), Classify.metrics, plots, text)


def to_html(text: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(text)


def to_text(markdown: str) -> str:
    """Return the text of a rendered card, a line per cell."""
    parts: list[str] = []
    parser = HTMLParser()
    parser.handle_data = parts.append
    parser.feed(to_html(markdown))
    return "\n".join(part.strip() for part in parts if part.strip())


def list_elements(markdown: str) -> list[str]:
    elements: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: elements.append(tag)
    parser.feed(to_html(markdown))
    return elements


def headings(markdown: str) -> list[str]:
    return [line.removeprefix("## ") for line in markdown.splitlines() if line.startswith("## ")]


def test_a_card_has_its_sections_in_order():
    assert headings(render()) == [
        "Results",
        "Class by class",
        "Limits",
        "Use",
        "Model",
        "Initial weights",
        "Preprocessing",
        "Data",
        "Training",
        "Repeat it",
        "License",
    ]


def test_a_card_says_everything_that_is_known():
    text = to_text(render())
    assert text.startswith("lenet on photos\n")
    numbers = ["98.00 %", "93.00 to 99.50 %", "97.00 %", "431,080", "1,200", "0.002", "0.1.0"]
    names = ["tanh", "adam", "a.png", "cut off", "a warning", "resnet18.pth", "BSD-3-Clause", "0123abcd"]
    texts = [TEXT.summary, *TEXT.limitations, *TEXT.preprocessing, TEXT.usage_command, TEXT.usage_python]
    for part in [*numbers, *names, *texts, VALUES["command"], "dog", "93.00 %"]:
        assert part in text, part


def test_a_card_does_not_say_where_the_data_was():
    assert "/home/me" not in render()


def test_plain_numbers_need_no_escapes():
    assert "| 431,080 |" in render() and "| 97.00 % |" in render()


@pytest.mark.parametrize(
    "name",
    [
        HOSTILE,
        "![x](http://example.org/beacon.png)",
        "[click](javascript:alert(1))",
        "a|b|c",
        "a\n\n# Heading\n\n- list",
        "`code` **bold** _it_ ~~no~~",
        "```\nfence",
        "&lt;b&gt;",
        "<div onclick=alert(1) ",
        "<!-- ",
        "- a list",
        "1. a list",
        "2) a list",
        "+ a list",
        "> a quotation",
        "===",
        "---",
        "    indented",
        "\\",
    ],
)
def test_hostile_names_stay_text(name):
    """A card with such names everywhere has the elements that a harmless name gives."""

    def render_with(text: str) -> str:
        return render(*(replace_texts(part, text) for part in (make_record(), [PLOT], TEXT)))

    assert list_elements(render_with(name)) == list_elements(render_with("calm"))
    render_with(name).encode("utf-8")


@pytest.mark.parametrize(
    "name",
    ["a|b", "<b>", "x_y_z", "50 $ & more", "`tick`", "back\\slash", "#1", "it's!", "1. x", "- x", "a.b", "-3"],
)
def test_names_read_as_they_are(name):
    plot = replace(PLOT, table=[["class"], [name]])
    assert f"\n{name}\n" in to_text(render(plots=[plot]))


def test_missing_parts_are_left_out():
    card = render(make_bare_record(), [], CardText())
    assert headings(card) == ["Use", "Model", "Data", "License"]
    assert "None" not in card and "nan" not in card.lower().split() and "undefined" not in card


def test_many_skipped_files_are_counted():
    files = [UnreadableFile(f"{index}.png", "cut off") for index in range(model_card.MAX_UNREADABLE + 7)]
    record = make_record()
    card = render(replace(record, data=replace(record.data, unreadable=files)))
    assert card.count("cut off") == model_card.MAX_UNREADABLE and "and 7 more" in card


def test_a_command_with_backticks_stays_in_its_fence():
    card = render(make_record(command="thalweg train classify 'a```b'"))
    assert "````sh\nthalweg train classify 'a```b'\n````" in card
