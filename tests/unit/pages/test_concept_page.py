"""The page of a concept: exercises are its last section, texts are escaped, figures shrink to narrow screens."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import pytest
from PIL import Image

import thalweg
from thalweg.concepts.base import ConceptResult, Frame
from thalweg.pages import concept_page
from thalweg.pages.html import html_document


@pytest.fixture(scope="module")
def neuron():
    return thalweg.explain("neuron")


def render_page(neuron, key_numbers=None, notes=(), **texts) -> str:
    """Render one small frame with changed texts."""
    frames = [Frame("caption", lambda: Image.new("RGB", (40, 20)))]
    result = ConceptResult({}, frames, key_numbers=key_numbers or {}, notes=list(notes))
    text = dataclasses.replace(neuron.text, **texts)
    rendered = SimpleNamespace(result=result, text=text, settings=neuron.settings, command="command")
    return concept_page.render_html(rendered)


def test_exercises_are_the_last_section(neuron):
    page = render_page(neuron, exercises=["Change the\nbias.", "Add an input."])
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings[-1] == "Exercises" and len(headings) == 4
    assert re.findall("<li>(.*?)</li>", page[page.index("<h2>Exercises") :]) == ["Change the bias.", "Add an input."]


def test_a_concept_without_exercises_has_no_such_section(neuron):
    assert "Exercises" not in render_page(neuron, exercises=[])


def test_texts_are_escaped(neuron):
    page = render_page(neuron, exercises=["<b>1"], look_for=["<b>2"], body="<b>3\n\n<b>4", source="<b>5", title="<b>6")
    assert "<b>" not in page
    assert all(f"&lt;b&gt;{number}" in page for number in range(1, 7))


def test_what_stands_between_backticks_is_code(neuron):
    page = render_page(neuron, exercises=["Run `a <b>`."], look_for=["See `c`."], body="Or `d`.", notes=["Not `e`."])
    for code in ("a &lt;b&gt;", "c", "d", "e"):
        assert f" <code>{code}</code>." in page
    assert "`" not in page.split("<script")[0]


def test_long_values_have_wide_cards_and_break_after_a_comma(neuron):
    page = render_page(neuron, {"a": "0.25 at 10, 1e-16 at 500, <b>"})
    assert "<span>0.25 at 10,</span> <span>1e-16 at 500,</span> <span>&lt;b&gt;</span>" in page
    assert '<dl class="long">' in page
    assert '<dl class="short">' in render_page(neuron, {"a": "0.25"})
    assert "<dl" not in render_page(neuron)


def test_one_frame_has_no_script_and_no_slider(neuron):
    page = render_page(neuron)
    assert "<script" not in page and 'type="range"' not in page and page.count("<img ") == 1


def test_figures_shrink_to_the_width_of_the_screen(neuron):
    """No rule for screens overrides the maximum width of images, and no figure scrolls."""
    page = render_page(neuron)
    screen_rules = page.split("@media print")[0]
    assert "img { display: block; max-width: 100%; height: auto; }" in screen_rules
    assert "max-width: none" not in page and 'img[width="900"]' not in screen_rules
    assert 'tabindex="0"><div class="stack">' not in page


def test_only_the_page_s_own_script_may_run():
    assert "script-src" not in html_document("title", "<p>body</p>")
    page = html_document("<title>", "<p>body</p>", script="let a = 1;")
    assert page.count("<script>") == 1 and "script-src 'sha256-" in page and "<title>&lt;title&gt;</title>" in page
