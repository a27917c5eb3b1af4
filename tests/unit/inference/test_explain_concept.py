"""Concepts from the command line to a file: settings, animations, pages, numbers, and what is rejected."""

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
from thalweg.config.parsing import format_setting, parse_options
from thalweg.errors import NotFoundError, OptionError, ResourceError
from thalweg.pages import concept_page
from thalweg.plots import animation
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
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert {**saved, "image": str(tmp_path / "a.json")} == printed
    assert saved == neuron.json()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5), st.floats(-100, 100))
def test_formatted_settings_can_be_parsed(numbers, bias):
    values = {"inputs": format_setting(numbers), "weights": numbers, "bias": format_setting(bias)}
    settings = parse_options(values, NeuronSettings)
    assert settings.inputs == pytest.approx(numbers, rel=1e-5) and settings.weights == numbers
    assert settings.bias == pytest.approx(bias, rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "option", "value"),
    [
        ("bias=1000", "bias", 1000),
        ("inputs=1,2000", "inputs", 2000),
        ("inputs=1,,2", "inputs", "1,,2"),
        ("activation=relux", "activation", "relux"),
        ("bias=nan", "bias", "nan"),
        ("biass=1", "biass", None),
        ("bias", "set", "bias"),
    ],
)
def test_settings_out_of_range_or_type_are_rejected(setting, option, value, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError) as error:
        cli.run_command(["explain", "neuron", "--set", setting])
    assert (error.value.option, error.value.value) == (option, value)
    assert explain("neuron", "--set", setting) == 2
    assert not capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["neuron", "--set", "inputs=1,2,3"],
        ["neuron", "--set", "inputs=" + ",".join("1" * 13)],
        ["neuron", "photo.jpg"],
        ["neuron", "bias=1"],
        ["neuron", "--target-class", "cat"],
        ["neuron", "--methods", "grad-cam"],
        ["neuron", "--set", "bias=1", "--set", "bias=2"],
        ["neuron", "--weights", "1,2", "--set", "weights=1,2"],
        ["neuron", "--step", "99"],
        ["neuron", "--save", "a.pdf"],
        ["digits-lenet"],
        ["digits-lenet", "a.png", "--set", "bias=1"],
        ["digits-lenet", "a.png", "b.png"],
        ["nueron", "a.png"],
    ],
    ids=" ".join,
)
def test_words_that_do_not_fit_are_rejected(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert explain(*words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and not captured.out and not list(tmp_path.iterdir())


def test_a_misspelled_concept_is_suggested(tmp_path):
    with pytest.raises(NotFoundError) as error:
        thalweg.explain("nueron")
    assert "neuron" in error.value.cure and error.value.value == "nueron"


def test_weights_of_a_neuron_may_be_a_flag(tmp_path, capsys):
    assert explain("neuron", "--weights", "2,1", "--save", str(tmp_path / "a.json")) == 0
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["settings"]["weights"] == [2, 1]


def test_a_concept_is_described_without_being_computed(capsys, monkeypatch):
    monkeypatch.setattr("thalweg.inference.explain_concept.explain_concept", pytest.fail)
    assert explain("neuron", "--describe") == 0
    text = capsys.readouterr().out
    assert "--set bias=0.3" in text and "-100 to 100" in text and "Exercises" in text and "Rosenblatt" in text


def test_the_list_is_a_table_by_chapter_or_json_with_a_schema_per_setting(capsys):
    assert explain("--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    schema = rows["neuron"]["settings"]
    assert schema["bias"]["minimum"] == -100 and schema["inputs"]["type"] == "array"
    assert rows["landscape"]["input"] == "weight_path"
    assert explain() == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in rows)


def test_a_folder_named_as_a_concept_is_given_with_its_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neuron").mkdir()
    assert explain("./neuron", "a.png") == 4
    assert "./neuron" in capsys.readouterr().err
    assert explain("neuron") == 0


# --- files -----------------------------------------------------------------------------------------------------------


def test_one_step_can_be_saved_as_png_and_svg(neuron, tmp_path):
    first = neuron.save(tmp_path / "deep" / "a.png", step=1)
    last = neuron.save(tmp_path / "b.PNG")
    assert first.read_bytes() != last.read_bytes()
    assert Image.open(last).size == neuron.draw(5).size == (1800, 800)
    svg_a, svg_b = (neuron.save(tmp_path / f"{n}.svg").read_bytes() for n in "ab")
    assert svg_a == svg_b and b"<!-- " not in svg_a[:60]
    for step in (0, 6):
        with pytest.raises(OptionError) as error:
            neuron.save(tmp_path / "a.png", step=step)
        assert (error.value.option, error.value.value, error.value.allowed) == ("step", step, [1, 5])
    with pytest.raises(OptionError) as error:
        neuron.save(tmp_path / "a.pdf")
    assert error.value.option == "save" and ".png" in error.value.allowed


def test_animations_show_every_frame(neuron, tmp_path):
    with Image.open(neuron.save(tmp_path / "a.gif")) as animated:
        assert animated.n_frames == len(neuron.result.frames) == 5 and animated.size == (900, 400)
        assert animated.info["loop"] == 0
        animated.seek(4)
        assert animated.info["duration"] == 2000
        small = neuron.draw(5).resize((900, 400), Image.Resampling.LANCZOS)
        assert abs(_to_gray(animated.convert("RGB")) - _to_gray(small)).mean() < 2
    av = pytest.importorskip("av")
    with av.open(neuron.save(tmp_path / "a.mp4")) as animated:
        stream = animated.streams.video[0]
        frames = [frame.to_image() for frame in animated.decode(stream)]
    assert stream.codec_context.name == "h264" and frames[0].size == (1800, 800)
    assert len(frames) == 4 * 15 + 20
    for image, step in ((frames[0], 1), (frames[-1], 5)):
        assert abs(_to_gray(image) - _to_gray(neuron.draw(step))).mean() < 3


def _to_gray(image):
    import numpy as np

    return np.asarray(image.convert("L"), np.float32)


def test_a_shared_palette_keeps_the_colors_of_paper_and_lines():
    from thalweg.plots import style

    frame = Image.effect_noise((200, 100), 90).convert("RGB")
    colors = [style.WHITE, style.BLACK, *style.OKABE_ITO]
    for index, color in enumerate(colors):
        frame.paste(color, (10 * index, 0, 10 * index + 10, 10))
    quantized = frame.quantize(palette=animation.build_palette([frame], 64), dither=Image.Dither.NONE).convert("RGB")
    assert [quantized.getpixel((10 * n + 5, 5)) for n in range(8)] == [
        frame.getpixel((10 * n + 5, 5)) for n in range(8)
    ]


def test_an_mp4_without_its_package_is_a_resource_error(neuron, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ResourceError) as error:
        neuron.save(tmp_path / "a.mp4")
    assert error.value.value == "av" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "seconds"), [(1, 1.5), (4, 1.5), (24, 0.5), (1000, 0.1)])
def test_frames_are_shown_long_enough(count, seconds):
    assert animation.seconds_per_frame(count) == seconds


def test_an_unwritable_path_is_a_resource_error(neuron, tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert explain("neuron", "--save", str(tmp_path / "file" / "a.png")) == 5
    assert str(tmp_path / "file" / "a.png") in capsys.readouterr().err


def test_a_full_disk_is_not_about_training(neuron, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ResourceError, match="No space left") as error:
        neuron.save(tmp_path / "a.png")
    assert "--save" in error.value.cure and "--resume" not in error.value.cure
    assert not list(tmp_path.iterdir())


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_self_contained_and_runs_only_its_own_script(neuron, tmp_path):
    page = neuron.save(tmp_path / "a.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert page.count("<img ") == 5 and page.count(" hidden>") == 0
    assert 'type="range" id="frame" min="0" max="4" value="4"' in page
    assert "prefers-color-scheme: dark" in page and "ArrowRight" in page
    assert neuron.command.replace("'", "&#x27;") in page and "doi:10.1007/BF02478259" in page
    for image in re.findall(r'src="data:image/webp;base64,([^"]+)"', page):
        assert Image.open(io.BytesIO(base64.b64decode(image))).format == "WEBP"


def test_names_in_the_page_stay_text():
    evil = "<script>alert(1)</script>"
    frame = Frame(evil + ".", lambda: Image.new("RGB", (40, 20)))
    result = ConceptResult({}, [frame, frame], key_numbers={evil: evil}, notes=[evil])
    neuron = thalweg.explain("neuron")
    rendered = SimpleNamespace(result=result, text=neuron.text, settings=neuron.settings, command=evil)
    page = concept_page.render_html(rendered)
    assert page.count("<script>") == 1 and page.count("&lt;script&gt;alert(1)") >= 5


@given(st.integers(0, 2**32 - 1))
def test_stacked_layers_are_the_frames(seed):
    import numpy as np

    random = np.random.default_rng(seed)
    first = random.integers(0, 256, (20, 30, 3), np.uint8)
    second = first.copy()
    second[5:9, 3 : random.integers(4, 30), random.integers(3)] += 1
    frames = [Image.fromarray(pixels) for pixels in (first, second, random.integers(0, 256, (20, 30, 3), np.uint8))]
    stacked = Image.new("RGB", (30, 20))
    for layer, frame in zip(concept_page.delta_frames([*frames, *frames]), [*frames, *frames], strict=True):
        stacked.paste(layer, mask=layer.getchannel("A") if layer.mode == "RGBA" else None)
        assert stacked.tobytes() == frame.tobytes()


def scale(image, factor):
    """Scale as a browser does: transparent pixels do not count."""
    size = tuple(round(side * factor) for side in image.size)
    return image.convert("RGBA").convert("RGBa").resize(size, Image.Resampling.BILINEAR).convert("RGBA")


@pytest.mark.parametrize("factor", [0.4, 0.55])
def test_shrunk_layers_hide_the_previous_frame(factor):
    frames = []
    for text in ("one 1234", "other 98"):
        frames.append(Image.new("RGB", (300, 60), "white"))
        ImageDraw.Draw(frames[-1]).text((20, 10), text, "black", font_size=30)
    below, above = (scale(layer, factor) for layer in concept_page.delta_frames(frames))
    composite = Image.alpha_composite(below, above).convert("L")
    histogram = ImageChops.difference(composite, scale(frames[1], factor).convert("L")).histogram()
    assert sum(histogram[9:]) < 0.002 * sum(histogram)


def test_many_large_frames_share_the_budget_of_a_page():
    noise = [Image.effect_noise((900, 450), 90).convert("RGB") for _ in range(3)]
    image_format, few = concept_page.encode_frames(noise[:1], budget=10_000_000)
    assert image_format == "webp" and Image.open(io.BytesIO(few[0])).size == (900, 450)
    _, many = concept_page.encode_frames(noise, budget=100_000)
    assert sum(map(len, many)) < 100_000 < len(few[0])


@pytest.mark.parametrize("tex", [r"s = \sum_i w_i \, x_i + b", r"\frac{\partial L}{\partial w}", "x"])
def test_formulas_are_outlines_in_the_color_of_the_text(tex):
    svg = ET.fromstring(render_formula_svg(tex, 'a "quoted" < formula'))
    assert svg.attrib["aria-label"] == 'a "quoted" < formula'
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    path = next(iter(svg))
    assert path.attrib["fill"] == "currentColor" and path.attrib["d"].startswith("m") and path.attrib["d"].endswith("z")
    points = [point for part in _points(path.attrib["d"]) for point in part]
    assert len(points) > 4 and all(left <= x <= left + width and top <= y <= top + height for x, y in points)
    # the last letter is in its place, too: rounding errors do not add up
    upper, lower = min(y for _, y in points), max(y for _, y in points)
    assert max(x for x, _ in points) == pytest.approx(left + width - 5, abs=1.5)
    assert (upper, lower) == (pytest.approx(top + 10, abs=1.5), pytest.approx(top + height - 10, abs=1.5))


def _points(path):
    """Yield the absolute points of every segment of an SVG path with relative commands."""
    position = start = (0, 0)
    for letter, numbers in re.findall("([mlqcz])([-0-9 ]*)", path):
        values = list(map(int, re.findall("-?[0-9]+", numbers)))
        points = [(position[0] + x, position[1] + y) for x, y in zip(values[::2], values[1::2], strict=True)]
        position = start if letter == "z" else points[-1]
        start = position if letter == "m" else start
        yield points


def test_a_broken_formula_is_rejected():
    with pytest.raises(ValueError):
        render_formula_svg(r"\frac{", "broken")
