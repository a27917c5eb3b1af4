import copy
import json
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from thalweg.pages import summary as figures
from thalweg.pages.model_card import render_card

HOSTILE = "<img src=x onerror=alert(1)>\"'&</style><script>alert(2)</script>\x00\udcff"
COMMAND = "thalweg train classify 'my photos' --seed 3"
FULL = {
    "task": "classify",
    "command": COMMAND,
    "parameters": 431_080,
    "options": {"model": "lenet", "arguments": {"activation": "tanh"}, "augment": "shift,rotate"},
    "plan": {"device": "cpu", "batch": 64, "recipe": {"lr": 0.002, "optimizer": "adam"}},
    "facts": {"classes": ["cat", "dog"], "size": [28, 28], "channels": 1, "mean": [0.13], "std": [0.31], "ink": True},
    "versions": {"thalweg": "0.1.0"},
    "data": {
        "name": "photos",
        "counts": {"train": 1200},
        "notes": ["a note"],
        "bad": [{"source": "a.png", "reason": "cut off"}],
    },
    "results": {
        "test": {"accuracy": 0.98, "accuracy_low": 0.93, "accuracy_high": 0.995, "macro_f1": 0.979, "examples": 100},
        "valid": {"accuracy": 0.97, "examples": 120},
        "per_class": [
            {"precision": 0.99, "recall": 0.98, "f1": 0.985, "examples": 50},
            {"precision": 0.9, "recall": None, "f1": 0.93, "examples": 50},
        ],
    },
}


def rendered(text: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(text)


def plain(text: str) -> str:
    """The text of the rendered card, one line to a cell."""
    parts = []
    parser = HTMLParser()
    parser.handle_data = parts.append
    parser.feed(rendered(text))
    return "\n".join(part.strip() for part in parts if part.strip())


def everywhere(value, text: str):
    """`value` with every text in it replaced."""
    if isinstance(value, dict):
        return {k: everywhere(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [everywhere(v, text) for v in value]
    return text if isinstance(value, str) else value


def test_a_card_says_what_it_is_how_good_and_how_to_use_and_repeat_it():
    text = plain(render_card(FULL))
    assert text.startswith("lenet on photos")
    for part in ("Results", "Class by class", "Limits", "Use", "Model", "What it sees", "Data", "Training", "Licence"):
        assert f"\n{part}\n" in text
    for words in (
        "98.00 %",
        "93.00 % to 99.50 %",
        "431,080",
        "activation tanh",
        "thalweg predict path/to/this/run picture.png",
        'tw.load("path/to/this/run")',
        COMMAND,
        "In training only, at random: shift,rotate.",
        "white strokes on black",
        "mean 0.13",
        "a.png",
        "0.1.0",
    ):
        assert words in text, words


def test_plain_figures_need_no_escapes():
    assert "| accuracy | 98.00 % | 97.00 % |" in render_card(FULL)


def test_the_classes_are_listed_from_the_worst():
    lines = plain(render_card(FULL)).splitlines()
    start = lines.index("examples", lines.index("Class by class")) + 1
    assert lines[start : start + 10] == [
        "dog", "90.00 %", "–", "93.00 %", "50", "cat", "99.00 %", "98.00 %", "98.50 %", "50",
    ]  # fmt: skip


def test_the_figures_per_class_may_stand_with_the_test():
    moved = copy.deepcopy(FULL)
    moved["results"]["test"]["per_class"] = moved["results"].pop("per_class")
    assert render_card(moved) == render_card(FULL)


@pytest.mark.parametrize(
    "text",
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
def test_hostile_names_stay_text(text):
    """Whatever a class or a file is called, the rendered card has the elements that a harmless name gives."""
    assert elements(render_card(everywhere(FULL, text))) == elements(render_card(everywhere(FULL, "calm")))
    render_card(everywhere(FULL, text)).encode("utf-8")


def elements(text: str) -> list[str]:
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append(tag)
    parser.feed(rendered(text))
    return found


def test_names_are_shown_as_they_are():
    for name in (
        "a|b",
        "<b>",
        "x_y_z",
        "50 $ & more",
        "`tick`",
        "back\\slash",
        "#1",
        "it's!",
        "1. x",
        "- x",
        "a.b",
        "-3",
    ):
        content = {**FULL, "facts": {"classes": [name, "dog"]}}
        assert f"\n{name}\n" in plain(render_card(content))


@pytest.mark.parametrize("missing", [*FULL, None])
def test_what_is_missing_is_not_spoken_of(missing):
    some = {k: v for k, v in FULL.items() if k != missing} if missing else {}
    for content in (some, {**some, missing: None} if missing else {}):
        text = render_card(content)
        assert "None" not in text and "nan" not in text.lower().split()
        assert "## Use" in text and "## Licence" in text


@pytest.mark.parametrize("part", ["facts", "results", "data", "plan", "options"])
def test_every_part_may_lack_any_of_its_keys(part):
    for key in FULL[part]:
        assert render_card({**FULL, part: {k: v for k, v in FULL[part].items() if k != key}}).startswith("# ")
        assert "None" not in render_card({**FULL, part: {**FULL[part], key: None}})


def test_a_card_of_what_came_back_from_json_is_the_same():
    assert render_card(json.loads(json.dumps(FULL))) == render_card(FULL)


def test_another_task_gets_its_figures_too():
    content = {"task": "detect", "results": {"test": {"mean_precision": 0.5, "boxes": 12_345, "loss": None}}}
    assert figures.build_results_table(content) == [
        ["", "test"],
        ["mean precision", "0.5"],
        ["boxes", "12,345"],
        ["loss (nats)", "–"],
    ]


def test_values_are_written_as_people_write_them():
    cases = [
        ("x", None, "–"),
        ("x", True, "yes"),
        ("accuracy", 0.98765, "98.77 %"),
        ("parameters", 1234567, "1,234,567"),
    ]
    cases += [
        ("lr", 0.00123456, "0.001235"),
        ("x", 123456.7, "123,457"),
        ("seed", 12345, "12345"),
        ("x", [1, 2], "1, 2"),
    ]
    cases += [("x", {"widths": [3, 4], "lr": 0.1}, "widths 3, 4, learning rate 0.1"), ("x", "text", "text")]
    for key, it, expected in cases:
        assert figures.format_value(key, it) == expected


def test_long_lists_are_counted():
    assert figures.join_values(range(30), limit=3) == "0, 1, 2 and 27 more"
