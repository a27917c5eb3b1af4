"""report.html shows all of a run, needs no network and no script, and every name stays text."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, features
from PIL import __version__ as pillow

from tests.helpers.records import PLOT, TEXT, make_bare_record, make_record, replace_texts
from thalweg.pages.html import encode_image
from thalweg.pages.report_html import ReportData, ReportImage, ReportSection, build_report, render_report
from thalweg.tasks.base import CardText, Plot
from thalweg.tasks.classify import Classify

HOSTILE = "<img src=x onerror=alert(1)>\"'&</style><script>alert(2)</script>\x00\udcff"
VOID_TAGS = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in turn; keeps elements, attributes and text."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def find_all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def make_image(width: int = 40, height: int = 20) -> Image.Image:
    return Image.fromarray(np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3))


def make_report(text: str) -> ReportData:
    """Return a report that has the same text everywhere."""
    images = [ReportImage(text, text, make_image())]
    section = ReportSection(text, f"{text}\n\n{text}", [[text, text], [text, text]], images)
    return ReportData(text, text, [(text, text)], [section, section])


def test_a_page_shows_everything_in_its_report():
    page = Page(render_report(make_report("some words")))
    assert "".join(page.texts).count("some words") == 23
    assert [img["alt"] for img in page.find_all("img")] == ["some words"] * 2


def test_hostile_names_stay_text():
    hostile = Page(render_report(make_report(HOSTILE)))
    calm = Page(render_report(make_report("calm")))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in calm.elements]
    expected = HOSTILE.replace("\x00", "\ufffd").replace("\udcff", "\ufffd")
    assert hostile.find_all("img")[0]["alt"] == expected
    assert "".join(hostile.texts).count(expected) == 23


def test_hostile_names_of_a_run_stay_text():
    def render(text: str) -> Page:
        record, plot, card_text = (replace_texts(part, text) for part in (make_record(), PLOT, TEXT))
        return Page(render_report(build_report(record, Classify.metrics, [plot], card_text)))

    assert [tag for tag, _ in render(HOSTILE).elements] == [tag for tag, _ in render("calm").elements]


def test_a_page_can_be_encoded_whatever_it_says():
    characters = [*range(0xA0), 0xD800, 0xDFFF, 0x202E, 0xFFFF, 0x10FFFF]
    render_report(make_report("".join(map(chr, characters)))).encode("utf-8")


@pytest.mark.parametrize("text", ["calm", HOSTILE])
def test_a_page_loads_nothing_and_runs_nothing(text):
    page = Page(render_report(make_report(text)))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "svg"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/").startswith("data:image/")
    policies = [m["content"] for m in page.find_all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "url(" not in render_report(make_report("")) and "@import" not in render_report(make_report(""))


def test_the_policy_stands_before_anything_it_governs():
    page = render_report(make_report("calm"))
    assert page.index("Content-Security-Policy") < min(page.index("<style"), page.index("<title"), page.index("<body"))


def test_links_lead_to_sections():
    page = Page(render_report(make_report("calm")))
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [a["href"].removeprefix("#") for a in page.find_all("a")]
    assert len(links) == 2 and set(links) <= targets


def test_lossless_images_keep_their_pixels_and_are_shown_at_half_size():
    img = Page(render_report(make_report("calm"))).find_all("img")[0]
    assert (img["width"], img["height"]) == ("20", "10")
    content = base64.b64decode(img["src"].split(",")[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), np.asarray(make_image()))


def test_a_large_photograph_is_compressed_lossily():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8))
    image_format, content = encode_image(noise)
    assert image_format == "webp" and len(content) < 300 * 600 * 3 / 2


def test_images_are_png_if_pillow_has_no_webp(monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: False)
    image_format, content = encode_image(make_image())
    assert image_format == "png" and content.startswith(b"\x89PNG"), pillow


def test_long_tables_are_folded():
    short, long = ([["n"], *([str(n)] for n in range(rows))] for rows in (5, 50))
    assert not Page(render_report(ReportData("t", sections=[ReportSection("s", table=short)]))).find_all("details")
    page = Page(render_report(ReportData("t", sections=[ReportSection("s", table=long)])))
    assert len(page.find_all("details")) == 1 and any("50" in text for text in page.texts)


def test_an_empty_report_is_a_page():
    page = Page(render_report(ReportData("nothing yet")))
    assert [tag for tag, _ in page.elements if tag in ("h2", "dl", "nav", "pre")] == []


def test_the_report_of_a_run_has_its_sections_in_order():
    plots = [Plot("curves", "Learning curves", "caption", make_image()), PLOT]
    report = build_report(make_record(), Classify.metrics, plots, TEXT)
    titles = [section.title for section in report.sections]
    assert titles[:3] == ["Results", "Learning curves", "Class by class"]
    assert titles[3:] == ["Limits", "Data", "Skipped files", "Plan", "Options", "Versions"]


def test_the_report_of_a_run_says_everything_that_is_known():
    record = make_record()
    page = Page(render_report(build_report(record, Classify.metrics, [PLOT], TEXT)))
    text = " ".join(" ".join(page.texts).split())
    parts = ["lenet on photos", "98.00 %", "93.00 to 99.50 %", "a.png cut off", "learning rate 0.002", record.command]
    for part in [*parts, "dog 93.00 %", TEXT.summary, *TEXT.limitations, "a warning"]:
        assert part in text, part
    assert "/home/me" not in text


def test_missing_parts_are_left_out():
    report = build_report(make_bare_record(), Classify.metrics, [], CardText())
    assert [section.title for section in report.sections] == ["Data"]
    text = "".join(Page(render_report(report)).texts)
    assert "None" not in text and "undefined" not in text
    unfinished = replace(make_record(), results=None)
    assert not build_report(unfinished, Classify.metrics, [], CardText()).sections[0].title == "Results"
