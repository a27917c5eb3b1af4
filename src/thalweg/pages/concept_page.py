"""The page of a concept: one offline HTML file with text, formulas and all frames behind a slider, light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, features

from ..concepts.base import ConceptResult, ConceptText
from ..config.parsing import format_setting, option_fields
from ..data.prefetch import prefetch_map
from ..plots.animation import build_palette
from ..plots.tex_svg import render_formula_svg
from .html import data_uri, escape, html_document


class RenderedConcept(Protocol):
    """What the page shows: a concept with its text, its settings and its result."""

    @property
    def text(self) -> ConceptText:
        """The text of the concept."""
        ...

    @property
    def settings(self) -> Any:
        """The settings it was computed with."""
        ...

    @property
    def result(self) -> ConceptResult:
        """Numbers and frames."""
        ...

    @property
    def command(self) -> str:
        """The command that repeats it."""
        ...


#: target size of a page in bytes; frames may always use the minimum
MAX_BYTES = 390_000
MIN_FRAME_BYTES = 150_000
#: letters of a value, such as 0.123 s, that a narrow card shows in one line
MAX_SHORT_VALUE = 24
#: side, in pixels, of the blocks in which a frame is compared with the previous one
BLOCK_SIZE = 4
#: a frame that changes more than this fraction of its pixels is stored completely
_MAX_DELTA = 0.6
#: positions of the frames, as fractions of all, by which the size of an encoding is estimated
_SAMPLE_POSITIONS = (0.3, 0.6, 0.8, 1.0)
#: an estimate may exceed the budget by this factor; it is a few percent off
_ESTIMATE_TOLERANCE = 1.05


class Encoding(NamedTuple):
    """How to encode frames.

    `scale` is pixels per unit; `colors` the size of the palette (None: all colors); `quality` that of lossy WebP
    (None: lossless).
    """

    scale: float
    colors: int | None
    quality: int | None


#: best first
_ENCODINGS = (
    Encoding(2.0, None, None),
    Encoding(2.0, 256, None),
    Encoding(2.0, 128, None),
    Encoding(2.0, None, 80),
    Encoding(1.5, 128, None),
    Encoding(1.5, None, 75),
    Encoding(1.25, 64, None),
    Encoding(1.0, 64, None),
    Encoding(1.0, None, 60),
    Encoding(0.8, None, 45),
)


def render_html(rendered: RenderedConcept) -> str:
    """Return the page, to be written as UTF-8."""
    text = rendered.text
    before = _render_introduction(text)
    after = _render_details(rendered)
    # base64 has four letters for three bytes
    budget = max(MIN_FRAME_BYTES, (MAX_BYTES - len(before) - len(after)) * 3 // 4)
    script = _SCRIPT if len(rendered.result.frames) > 1 else ""
    return html_document(text.title, before + _render_frames(rendered, budget) + after, script, _STYLE)


def _render_introduction(text: ConceptText) -> str:
    """Render chapter, title, body and formulas."""
    lines = [f'<p class="chapter">{escape(text.chapter)}</p>\n<h1>{escape(text.title)}</h1>\n']
    for paragraph in text.body.split("\n\n"):
        if paragraph.strip():
            lines.append(f"<p>{_format_line(paragraph)}</p>\n")
    for plain, tex in text.formulas:
        lines.append(f'<p class="formula">{render_formula_svg(tex, plain)}</p>\n')
    return "".join(lines)


def _render_details(rendered: RenderedConcept) -> str:
    """Render notes, key numbers, what to look for, settings, command, exercises and source."""
    result = rendered.result
    text = rendered.text
    lines = []
    for note in result.notes:
        lines.append(f"<p><strong>Note:</strong> {_format_line(note)}</p>\n")
    lines.append(_render_key_numbers(result.key_numbers))
    lines.append(f"<h2>What to look for</h2>\n<ul>{_render_items(text.look_for)}</ul>\n")
    lines.append(f"<h2>Settings</h2>\n{_render_settings(rendered)}\n")
    lines.append(f"<h2>Repeat it</h2>\n<pre><code>{escape(rendered.command)}</code></pre>\n")
    if text.exercises:
        lines.append(f"<h2>Exercises</h2>\n<ol>{_render_items(text.exercises)}</ol>\n")
    lines.append(f'<p class="source">Source: {escape(text.source)}</p>')
    return "".join(lines)


def _render_key_numbers(key_numbers: Mapping[str, str]) -> str:
    """Render a card per number; values of several numbers are wider and smaller, and break after a comma."""
    if not key_numbers:
        return ""
    is_long = max(map(len, key_numbers.values())) > MAX_SHORT_VALUE
    cards = ""
    for name, value in key_numbers.items():
        parts = [f"<span>{escape(part)}</span>" for part in re.split(r"(?<=[,;]) ", value)]
        cards += f"<div><dt>{escape(name)}</dt><dd>{' '.join(parts)}</dd></div>"
    return f'<dl class="{"long" if is_long else "short"}">{cards}</dl>\n'


def _render_items(sentences: Iterable[str]) -> str:
    items = ""
    for sentence in sentences:
        items += f"<li>{_format_line(sentence)}</li>"
    return items


def _format_line(text: str) -> str:
    """Escape a text, join its lines, and set what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))


def _render_settings(rendered: RenderedConcept) -> str:
    """Render a table of the settings with their values."""
    settings = rendered.settings
    rows = ""
    for field in option_fields(type(settings)).values():
        value = escape(format_setting(getattr(settings, field.name)))
        rows += f"<tr><td><code>{escape(field.name)}</code></td><td>{value}</td><td>{escape(field.help)}</td></tr>"
    return (
        '<div class="wide" tabindex="0"><table><thead><tr><th scope="col">setting</th><th scope="col">value</th>'
        f'<th scope="col">meaning</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _render_frames(rendered: RenderedConcept, budget: int) -> str:
    """Render the figure: the first frame, the changes of the others stacked on it, and the slider below them."""
    frames = rendered.result.frames
    count = len(frames)
    key_frame = range(count)[rendered.result.key_frame]
    images = [frame.draw() for frame in frames]
    image_format, contents = encode_frames(images, budget)
    size = f'width="{images[0].width // 2}" height="{images[0].height // 2}"'
    layers = ""
    for index, (frame, content) in enumerate(zip(frames, contents, strict=True)):
        hidden = " hidden" if index > key_frame else ""
        layers += f'<img src="{data_uri(image_format, content)}" alt="{escape(frame.caption)}" {size}{hidden}>'
    slider = ""
    if count > 1:
        slider = (
            '<div class="bar"><button type="button" id="play" aria-label="play">&#9654;</button>'
            f'<input type="range" id="frame" min="0" max="{count - 1}" value="{key_frame}" aria-label="step">'
            f'<output id="count">{key_frame + 1} / {count}</output></div>'
        )
    caption = f'<figcaption aria-live="polite">{escape(frames[key_frame].caption)}</figcaption>'
    return f'<figure><div class="wide"><div class="stack">{layers}</div></div>{slider}{caption}</figure>\n'


def encode_frames(images: Sequence[Image.Image], budget: int) -> tuple[str, list[bytes]]:
    """Encode the first frame and the changes of each other frame, transparent where nothing changed.

    Args:
        images: The frames, RGB, all of one size.
        budget: Maximum size of all files together, in bytes.

    Returns:
        The format, and the files in the best encoding within the budget, or else in the smallest encoding.
    """
    if not features.check("webp"):
        layers = delta_frames(_rescale_images(images, 1.0))
        return "png", [_encode_image(layer, "PNG", optimize=True) for layer in layers]
    estimates: dict[Encoding, float] = {}
    for encoding in _ENCODINGS:
        estimates[encoding] = _estimate_size(images, encoding)
        # encoding all frames takes seconds
        if estimates[encoding] <= _ESTIMATE_TOLERANCE * budget:
            files = _encode_layers(images, encoding)
            if sum(map(len, files)) <= budget:
                return "webp", files
    smallest = min(estimates, key=lambda encoding: estimates[encoding])
    return "webp", _encode_layers(images, smallest)


def _encode_layers(images: Sequence[Image.Image], encoding: Encoding) -> list[bytes]:
    """Encode all layers."""
    frames = _quantize_images(_rescale_images(images, encoding.scale), encoding.colors)
    return list(prefetch_map(lambda layer: _encode_webp(layer, encoding.quality, 4), delta_frames(frames)))


def _estimate_size(images: Sequence[Image.Image], encoding: Encoding) -> float:
    """Estimate the bytes of all layers from the first and up to four others."""
    count = len(images)
    indices = {0}
    for position in _SAMPLE_POSITIONS:
        indices.add(round(position * (count - 1)))
    sample = []
    for index in sorted(indices):
        sample += [images[max(0, index - 1)], images[index]]
    frames = _quantize_images(_rescale_images(sample, encoding.scale), encoding.colors)
    layers = [frames[0]]
    for index in range(2, len(frames), 2):
        layers.append(delta_frames(frames[index : index + 2])[1])
    files = prefetch_map(lambda layer: _encode_webp(layer, encoding.quality, 2), layers)
    first, *others = map(len, files)
    if not others:
        return first
    return first + sum(others) / len(others) * (count - 1)


def _rescale_images(images: Sequence[Image.Image], scale: float) -> list[Image.Image]:
    """Resize images to a number of pixels per unit; plots have two."""
    if scale == 2.0:
        return list(images)
    size = (round(images[0].width * scale / 2), round(images[0].height * scale / 2))
    return [image.resize(size, Image.Resampling.LANCZOS) for image in images]


def _quantize_images(images: list[Image.Image], colors: int | None) -> list[Image.Image]:
    """Reduce images to one palette of so many colors."""
    if colors is None:
        return images
    palette = build_palette(images, colors)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB") for image in images]


def delta_frames(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the first image, and for each other one a layer that shows it on top of all layers before.

    Layers hold the blocks that changed and the blocks around them: a browser that scales a layer blends its edge with
    the pixels below, which must be equal there.
    """
    layers = [images[0]]
    for previous, image in pairwise(images):
        changed_HW = (np.asarray(image) != np.asarray(previous)).any(2)
        opaque_HW = _dilate_blocks(changed_HW)
        if opaque_HW.mean() > _MAX_DELTA:
            layers.append(image)
            continue
        layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
        layer.paste(image, mask=Image.fromarray(np.where(opaque_HW, 255, 0).astype(np.uint8)))
        layers.append(layer)
    return layers


def _dilate_blocks(changed_HW: np.ndarray) -> np.ndarray:
    """Return whether the block of a pixel, or one of its eight neighbors, has a changed pixel."""
    height, width = changed_HW.shape
    padded = np.pad(changed_HW, ((0, -height % BLOCK_SIZE), (0, -width % BLOCK_SIZE)))
    blocks = padded.reshape(padded.shape[0] // BLOCK_SIZE, BLOCK_SIZE, -1, BLOCK_SIZE).any((1, 3))
    dilated = np.lib.stride_tricks.sliding_window_view(np.pad(blocks, 1), (3, 3)).any((2, 3))
    return dilated.repeat(BLOCK_SIZE, 0).repeat(BLOCK_SIZE, 1)[:height, :width]


def _encode_webp(image: Image.Image, quality: int | None, effort: int) -> bytes:
    """Encode as WebP with an effort from 0 to 6; lossless without a quality."""
    if quality is None:
        return _encode_image(image, "WEBP", method=effort, lossless=True)
    return _encode_image(image, "WEBP", method=effort, quality=quality, alpha_quality=100)


def _encode_image(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


_STYLE = """
.chapter { color: var(--soft); margin: 0; }
.formula { margin: 14px 0; font-size: 1.15rem; }
.source { color: var(--soft); font-size: 0.875rem; }
.bar { display: flex; gap: 12px; align-items: center; margin: 10px 0 0; }
.bar input { flex: 1; accent-color: var(--accent); min-width: 0; }
.bar button { font: inherit; width: 44px; height: 36px; border-radius: 8px; border: 1px solid var(--line);
  background: var(--card); color: var(--ink); cursor: pointer; }
.bar output { font-variant-numeric: tabular-nums; color: var(--soft); min-width: 5ch; text-align: right; }
td code { white-space: nowrap; }
.stack { position: relative; }
.stack img { position: absolute; top: 0; left: 0; }
.stack img:first-child { position: static; }
.stack img[hidden] { display: none; }
figcaption { min-height: 3em; }
dl { margin-top: 16px; }
dd { font-size: 1.1rem; }
dd span { display: inline-block; }
.long { grid-template-columns: repeat(auto-fit, minmax(min(100%, 250px), 1fr)); }
.long dd { font-size: 0.95rem; font-weight: 550; }
@media print { .bar { display: none; } }
"""
_SCRIPT = """
"use strict";
const frames = [...document.querySelectorAll("figure img")];
const slider = document.getElementById("frame"), play = document.getElementById("play");
const count = document.getElementById("count"), caption = document.querySelector("figcaption");
let timer = null;
function show(index) {
  const current = Math.max(0, Math.min(frames.length - 1, index));
  frames.forEach((frame, i) => { frame.hidden = i > current; frame.ariaHidden = String(i !== current); });
  slider.value = current;
  slider.setAttribute("aria-valuetext", frames[current].alt);
  count.textContent = (current + 1) + " / " + frames.length;
  caption.textContent = frames[current].alt;
}
function stop() { clearInterval(timer); timer = null; play.textContent = "\\u25b6"; play.ariaLabel = "play"; }
function toggle() {
  if (timer) { stop(); return; }
  if (+slider.value === frames.length - 1) { show(0); }
  play.textContent = "\\u23f8"; play.ariaLabel = "pause";
  timer = setInterval(() => {
    if (+slider.value === frames.length - 1) { stop(); } else { show(+slider.value + 1); }
  }, Math.max(120, Math.min(1500, 12000 / frames.length)));
}
slider.addEventListener("input", () => { stop(); show(+slider.value); });
play.addEventListener("click", toggle);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target === slider) { return; }
  const moves = { ArrowRight: 1, ArrowLeft: -1, Home: -frames.length, End: frames.length };
  if (event.key in moves) { stop(); show(+slider.value + moves[event.key]); event.preventDefault(); }
  if (event.key === " " && event.target !== play) { toggle(); event.preventDefault(); }
});
"""
