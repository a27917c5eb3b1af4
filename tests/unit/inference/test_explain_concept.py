"""Concepts from the command line to a file: settings, films, pages, numbers, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shlex
import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.base import ConceptResult, Frame
from thalweg.concepts.neuron.compute import NeuronSettings
from thalweg.config import options
from thalweg.errors import OptionError, ResourceError
from thalweg.inference import explain_concept as lessons
from thalweg.pages import concept_page as lessonpage
from thalweg.plots import animation as films
from thalweg.plots.tex_svg import render_formula_svg


@pytest.fixture(scope="module")
def neuron():
    return thalweg.explain("neuron", inputs=[1, 2, -3], weights=[0.5, -1, 0.25], bias=0.1, activation="tanh")


def explain(*words):
    return cli.invoke(["explain", *words])


# --- settings --------------------------------------------------------------------------------------------------------


def test_python_and_the_command_line_give_the_same_numbers(neuron, tmp_path, capsys):
    words = shlex.split(neuron.command)
    assert words[:3] == ["thalweg", "explain", "neuron"]
    assert cli.invoke([*words[1:], "--save", str(tmp_path / "a.json"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert {**kept, "picture": str(tmp_path / "a.json")} == printed
    assert kept == neuron.json()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5), st.floats(-100, 100))
def test_settings_are_told_as_set_takes_them(numbers, bias):
    made = options.parse_options(
        {"inputs": lessons.format_setting(numbers), "weights": numbers, "bias": lessons.format_setting(bias)},
        NeuronSettings,
    )
    assert made.inputs == pytest.approx(numbers, rel=1e-5) and made.weights == numbers
    assert made.bias == pytest.approx(bias, rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("bias=1000", "neuron: bias: 1000 is not from -100 to 100"),
        ("inputs=1,2000", "inputs: 2000 is not from"),
        ("inputs=1,,2", "'1,,2' is not values with commas between"),
        ("activation=relux", "'relux' is not identity, step"),
        ("bias=nan", "'nan' is not a number"),
        ("biass=1", "Did you mean 'bias'"),
        ("bias", "not key=value"),
        ("inputs=1,2,3", "There are 3 inputs and 2 weights"),
        ("inputs=" + ",".join("1" * 13), "13 inputs and 2 weights"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert explain("neuron", "--set", setting) == 2
    shown = capsys.readouterr()
    assert told in shown.err and not shown.out and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["neuron", "photo.jpg"], "about its settings alone, and photo.jpg is none"),
        (["neuron", "--class", "cat"], "--class and --methods are for pictures"),
        (["neuron", "--set", "bias=1", "--set", "bias=2"], "'bias' is given twice"),
        (["neuron", "--weights", "1,2", "--set", "weights=1,2"], "'weights' is given twice"),
        (["neuron", "--frame", "99"], "There is no frame 99"),
        (["neuron", "--save", "a.pdf"], "a.pdf: a file of that name cannot be written"),
        (["digits-lenet"], "is asked about one picture"),
        (["digits-lenet", "a.png", "--set", "bias=1"], "has no --set"),
        (["digits-lenet", "a.png", "b.png"], "is asked about one picture"),
        (["nueron", "a.png"], "nueron"),
    ],
)
def test_words_that_do_not_fit_are_refused(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert explain(*words) == 2
    assert told in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_weights_of_a_neuron_may_be_given_as_a_flag(tmp_path, capsys):
    assert explain("neuron", "--weights", "2,1", "--save", str(tmp_path / "a.json")) == 0
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["settings"]["weights"] == [2, 1]


def test_a_concept_is_told_without_being_computed(capsys):
    assert explain("neuron", "--about") == 0
    told = capsys.readouterr().out
    assert "--set bias=0.3   what is added to the sum (a number, -100 to 100)" in told
    assert "Rosenblatt" in told


def test_the_list_is_json_too_with_a_form_for_every_setting(capsys):
    assert explain("--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    form = rows["neuron"]["settings"]
    assert form["bias"]["minimum"] == -100 and form["inputs"]["type"] == "array"
    assert rows["landscape"]["subject"] == "trail"


def test_a_name_that_is_a_folder_of_the_user_is_meant_with_its_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neuron").mkdir()
    assert explain("./neuron", "a.png") == 4
    assert "./neuron is not a run" in capsys.readouterr().err
    assert explain("neuron") == 0


# --- files -----------------------------------------------------------------------------------------------------------


def test_one_step_can_be_kept_as_picture_and_vectors(neuron, tmp_path):
    first = neuron.save(tmp_path / "deep" / "a.png", frame=1)
    last = neuron.save(tmp_path / "b.PNG")
    assert first.read_bytes() != last.read_bytes()
    assert Image.open(last).size == neuron.draw(5).size == (1800, 800)
    one, two = (neuron.save(tmp_path / f"{n}.svg").read_bytes() for n in "ab")
    assert one == two and b"<!-- " not in one[:60]
    with pytest.raises(OptionError, match="no frame 6"):
        neuron.save(tmp_path / "a.png", frame=6)


def test_films_show_every_frame(neuron, tmp_path):
    with Image.open(neuron.save(tmp_path / "a.gif")) as film:
        assert film.n_frames == len(neuron.result.frames) == 5 and film.size == (900, 400)
        assert film.info["loop"] == 0
        film.seek(4)
        assert film.info["duration"] == 2000
        small = neuron.draw(5).resize((900, 400), Image.Resampling.LANCZOS)
        assert abs(_grey(film.convert("RGB")) - _grey(small)).mean() < 2
    av = pytest.importorskip("av")
    with av.open(neuron.save(tmp_path / "a.mp4")) as film:
        stream = film.streams.video[0]
        frames = [frame.to_image() for frame in film.decode(stream)]
    assert stream.codec_context.name == "h264" and frames[0].size == (1800, 800)
    assert len(frames) == 4 * 15 + 20
    for shown, frame in ((frames[0], 1), (frames[-1], 5)):
        away = abs(_grey(shown) - _grey(neuron.draw(frame))).mean()
        assert away < 3


def _grey(image):
    import numpy as np

    return np.asarray(image.convert("L"), np.float32)


def test_a_common_palette_leaves_paper_and_lines_as_they_are():
    from thalweg.plots import style

    frame = Image.effect_noise((200, 100), 90).convert("RGB")
    kept = [style.WHITE, style.BLACK, *style.OKABE_ITO]
    for place, colour in enumerate(kept):
        frame.paste(colour, (10 * place, 0, 10 * place + 10, 10))
    shown = frame.quantize(palette=films.build_palette([frame], 64), dither=Image.Dither.NONE).convert("RGB")
    assert [shown.getpixel((10 * n + 5, 5)) for n in range(8)] == [frame.getpixel((10 * n + 5, 5)) for n in range(8)]


def test_an_mp4_without_its_package_says_how_to_have_it(neuron, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ResourceError) as error:
        neuron.save(tmp_path / "a.mp4")
    assert error.value.value == "av" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "seconds"), [(1, 1.5), (4, 1.5), (24, 0.5), (1000, 0.1)])
def test_frames_stay_long_enough_to_be_seen(count, seconds):
    assert films.seconds_per_frame(count) == seconds


def test_a_place_that_cannot_be_written_is_told(neuron, tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert explain("neuron", "--save", str(tmp_path / "file" / "a.png")) == 5
    assert "Could not write" in capsys.readouterr().err


def test_a_disk_that_is_full_is_told_without_a_word_of_training(neuron, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ResourceError, match="No space left") as error:
        neuron.save(tmp_path / "a.png")
    assert error.value.cure == "Make room, or give another --save." and not list(tmp_path.iterdir())


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself_and_runs_only_its_own_script(neuron, tmp_path):
    page = neuron.save(tmp_path / "a.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert page.count("<img ") == 5 and page.count(" hidden>") == 0
    assert 'type="range" id="frame" min="0" max="4" value="4"' in page
    assert "prefers-color-scheme: dark" in page and "ArrowRight" in page
    assert neuron.command.replace("'", "&#x27;") in page and "doi:10.1007/BF02478259" in page
    for picture in re.findall(r'src="data:image/webp;base64,([^"]+)"', page):
        assert Image.open(io.BytesIO(base64.b64decode(picture))).format == "WEBP"


def test_what_a_user_named_is_text_in_the_page():
    evil = "<script>alert(1)</script>"
    frame = Frame(evil + ".", lambda: Image.new("RGB", (40, 20)))
    result = ConceptResult({}, [frame, frame], key_numbers={evil: evil}, notes=[evil])
    honest = thalweg.explain("neuron")
    shown = SimpleNamespace(result=result, page=honest.page, asked=honest.asked, command=evil)
    page = lessonpage.render_html(shown)
    assert page.count("<script>") == 1 and page.count("&lt;script&gt;alert(1)") >= 5


@given(st.integers(0, 2**32 - 1))
def test_layers_over_each_other_are_the_frames(seed):
    import numpy as np

    random = np.random.default_rng(seed)
    first = random.integers(0, 256, (20, 30, 3), np.uint8)
    second = first.copy()
    second[5:9, 3 : random.integers(4, 30), random.integers(3)] += 1
    frames = [Image.fromarray(pixels) for pixels in (first, second, random.integers(0, 256, (20, 30, 3), np.uint8))]
    shown = Image.new("RGB", (30, 20))
    for layer, frame in zip(lessonpage.delta_frames([*frames, *frames]), [*frames, *frames], strict=True):
        shown.paste(layer, mask=layer.getchannel("A") if layer.mode == "RGBA" else None)
        assert shown.tobytes() == frame.tobytes()


def scaled(image, share):
    """As a browser does it: what is clear counts nothing."""
    size = tuple(round(side * share) for side in image.size)
    return image.convert("RGBA").convert("RGBa").resize(size, Image.Resampling.BILINEAR).convert("RGBA")


@pytest.mark.parametrize("share", [0.4, 0.55])
def test_nothing_of_the_frame_before_is_seen_where_a_browser_shrinks_the_layers(share):
    frames = []
    for text in ("one 1234", "other 98"):
        frames.append(Image.new("RGB", (300, 60), "white"))
        ImageDraw.Draw(frames[-1]).text((20, 10), text, "black", font_size=30)
    below, above = (scaled(layer, share) for layer in lessonpage.delta_frames(frames))
    shown, wanted = Image.alpha_composite(below, above).convert("L"), scaled(frames[1], share).convert("L")
    off = ImageChops.difference(shown, wanted).histogram()
    assert sum(off[9:]) < 0.002 * sum(off)


def test_many_large_frames_share_the_room_of_a_page():
    noise = [Image.effect_noise((900, 450), 90).convert("RGB") for _ in range(3)]
    kind, few = lessonpage.encode_frames(noise[:1], budget=10_000_000)
    assert kind == "webp" and Image.open(io.BytesIO(few[0])).size == (900, 450)
    _, many = lessonpage.encode_frames(noise, budget=100_000)
    assert sum(map(len, many)) < 100_000 < len(few[0])


@pytest.mark.parametrize("tex", [r"s = \sum_i w_i \, x_i + b", r"\frac{\partial L}{\partial w}", "x"])
def test_formulas_are_outlines_in_the_colour_of_the_text(tex):
    drawn = ET.fromstring(render_formula_svg(tex, 'a "quoted" < formula'))
    assert drawn.attrib["aria-label"] == 'a "quoted" < formula'
    left, top, width, height = map(float, drawn.attrib["viewBox"].split())
    path = next(iter(drawn))
    assert path.attrib["fill"] == "currentColor" and path.attrib["d"].startswith("m") and path.attrib["d"].endswith("z")
    points = [point for part in _points(path.attrib["d"]) for point in part]
    assert len(points) > 4 and all(left <= x <= left + width and top <= y <= top + height for x, y in points)
    # the last letter is in its place, too: none of the rounded steps before it adds up
    high, low = min(y for _, y in points), max(y for _, y in points)
    assert max(x for x, _ in points) == pytest.approx(left + width - 5, abs=1.5)
    assert (high, low) == (pytest.approx(top + 10, abs=1.5), pytest.approx(top + height - 10, abs=1.5))


def _points(told):
    """The points of every segment of an SVG path in relative commands, where they lie."""
    now = start = (0, 0)
    for letter, numbers in re.findall("([mlqcz])([-0-9 ]*)", told):
        values = list(map(int, re.findall("-?[0-9]+", numbers)))
        found = [(now[0] + x, now[1] + y) for x, y in zip(values[::2], values[1::2], strict=True)]
        now = start if letter == "z" else found[-1]
        start = now if letter == "m" else start
        yield found


def test_what_is_no_formula_is_refused():
    with pytest.raises(ValueError):
        render_formula_svg(r"\frac{", "broken")
