import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, features
from PIL import __version__ as pillow

from thalweg.pages.html import encode_image
from thalweg.pages.report_html import (
    PLOT_SECTIONS,
    ReportData,
    ReportImage,
    ReportSection,
    build_report,
    key_metrics,
    render_report,
)

HOSTILE = "<img src=x onerror=alert(1)>\"'&</style><script>alert(2)</script>\x00\udcff"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in turn; keeps elements, attributes and text."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for found, attributes in self.elements if found == tag]


def image(width: int = 40, height: int = 20) -> Image.Image:
    return Image.fromarray(np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3))


def told(text: str) -> ReportData:
    pictures = [ReportImage(text, text, image())]
    section = ReportSection(text, f"{text}\n\n{text}", [[text, text], [text, text]], pictures)
    return ReportData(text, text, [(text, text)], [section, section])


CONTENT = {
    "task": "classify",
    "model": "lenet",
    "command": "thalweg train classify 'my photos' --seed 3",
    "parameters": 431_080,
    "options": {"model": None, "seed": 3},
    "plan": {"device": "cpu", "batch": 64, "recipe": {"lr": 0.002, "optimizer": "adam"}},
    "facts": {"classes": ["cat", "dog"]},
    "versions": {"thalweg": "0.1.0"},
    "data": {
        "name": "photos",
        "counts": {"train": 1200, "test": 100},
        "bad": [{"source": "a.png", "reason": "cut off"}],
    },
    "results": {
        "test": {"accuracy": 0.98, "accuracy_low": 0.93, "accuracy_high": 0.995, "macro_f1": 0.979, "examples": 100},
        "valid": {"accuracy": 0.97, "examples": 120},
        "per_class": [
            {"precision": 0.99, "recall": 0.98, "f1": 0.985, "examples": 50},
            {"precision": 0.9, "recall": None, "f1": 0.93, "examples": 50},
        ],
        "seconds": 12.5,
    },
}


def test_a_page_says_everything_of_the_story():
    page = Page(render_report(told("some words")))
    assert "".join(page.texts).count("some words") == 23
    assert [img["alt"] for img in page.all("img")] == ["some words"] * 2


def test_hostile_names_stay_text():
    page, calm = Page(render_report(told(HOSTILE))), Page(render_report(told("calm")))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in calm.elements]
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\udcff", "\ufffd")
    assert page.all("img")[0]["alt"] == shown
    assert "".join(page.texts).count(shown) == 23


def test_a_page_can_be_written_whatever_it_says():
    render_report(told("".join(map(chr, [*range(0xA0), 0xD800, 0xDFFF, 0x202E, 0xFFFF, 0x10FFFF])))).encode("utf-8")


@pytest.mark.parametrize("text", ["calm", HOSTILE])
def test_a_page_loads_nothing_and_runs_nothing(text):
    page = Page(render_report(told(text)))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "svg"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/").startswith("data:image/")
    policy = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1 and policy[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "url(" not in render_report(told("")) and "@import" not in render_report(told(""))


def test_the_policy_stands_before_anything_it_governs():
    page = render_report(told("calm"))
    assert page.index("Content-Security-Policy") < min(page.index("<style"), page.index("<title"), page.index("<body"))


def test_links_lead_to_sections():
    page = Page(render_report(told("calm")))
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    assert len(links) == 2 and set(links) <= targets


def test_pictures_without_loss_are_the_same_pixels_and_shown_at_half_size():
    img = Page(render_report(told("calm"))).all("img")[0]
    assert (img["width"], img["height"]) == ("20", "10")
    content = base64.b64decode(img["src"].split(",")[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), np.asarray(image()))


def test_a_large_photograph_gives_up_detail_for_size():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8))
    kind, content = encode_image(noise)
    assert kind == "webp" and len(content) < 300 * 600 * 3 / 2


def test_pictures_are_png_where_pillow_has_no_webp(monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: False)
    kind, content = encode_image(image())
    assert kind == "png" and content.startswith(b"\x89PNG"), pillow


def test_long_tables_are_folded_away():
    short, long = ([["n"], *([str(n)] for n in range(rows))] for rows in (5, 50))
    assert not Page(render_report(ReportData("t", sections=[ReportSection("s", table=short)]))).all("details")
    page = Page(render_report(ReportData("t", sections=[ReportSection("s", table=long)])))
    assert len(page.all("details")) == 1 and "All 50 rows" in page.texts


def test_an_empty_story_is_a_page_too():
    page = Page(render_report(ReportData("nothing yet")))
    assert [tag for tag, _ in page.elements if tag in ("h2", "dl", "nav", "pre")] == []


def test_the_story_of_a_run_has_its_parts_in_order():
    names = ["filters", "curves", "batch", "classes", "own_picture", "calibration", "confusion", "mistakes"]
    titles = [section.title for section in build_report(CONTENT, dict.fromkeys(names, image())).sections]
    drawn = [title for title, _ in PLOT_SECTIONS.values()]
    assert titles == ["Results", *drawn, "Own picture", "Data", "Files left out", "Plan", "Options", "Versions"]


def test_the_story_tells_figures_files_and_settings():
    text = re.sub(r"\s+", " ", " ".join(Page(render_report(build_report(CONTENT, {}))).texts))
    for words in ("lenet on photos", "98.00 %", "93.00 % to 99.50 %", "a.png cut off", "train 1,200, test 100"):
        assert words in text
    assert "learning rate 0.002" in text and CONTENT["command"] in text
    assert text.index("dog 90.00 % – 93.00 % 50") < text.index("cat 99.00 % 98.00 % 98.50 % 50")


def test_the_headline_begins_with_the_test_and_its_interval():
    assert key_metrics(CONTENT) == [
        ("test accuracy, 95 % interval 93.00 % to 99.50 %", "98.00 %"),
        ("validation accuracy", "97.00 %"),
        ("macro F1 on the test set", "97.90 %"),
        ("parameters", "431,080"),
        ("seconds of training", "12.5"),
    ]


@pytest.mark.parametrize("missing", [*CONTENT, None])
def test_what_is_missing_is_left_out(missing):
    content = {k: v for k, v in CONTENT.items() if k != missing} if missing else {}
    Page(render_report(build_report(content, {})))
    nulls = {k: None if k == missing else v for k, v in CONTENT.items()}
    Page(render_report(build_report(nulls, {})))
