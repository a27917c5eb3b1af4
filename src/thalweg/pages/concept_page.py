"""The page of a concept: one file with text, formulas and every frame under a slider; works offline, light and dark."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, features

from ..data.images.image_loading import prefetch_map
from ..plots.animation import build_palette
from ..plots.tex_svg import render_formula_svg
from .html import data_uri, escape, html_document

if TYPE_CHECKING:
    from ..inference.explain_concept import RenderedConcept

#: bytes of text and frames of a page, where any way of writing the frames is small enough; that frames have at least
MAX_BYTES, MIN_FRAME_BYTES = 390_000, 150_000
#: side, in pixels, of the blocks in which a frame is told from the one before
BLOCK_SIZE = 4
#: a way of writing frames: pixels per unit of the drawing; colours (None: all that there are), without loss; or WebP's
#: quality, with loss, as suits photographs
Encoding = tuple[float, int | None, int | None]
#: best first
_ENCODINGS: tuple[Encoding, ...] = (
    (2.0, None, None), (2.0, 256, None), (2.0, 128, None), (2.0, None, 80), (1.5, 128, None), (1.5, None, 75),
    (1.25, 64, None), (1.0, 64, None), (1.0, None, 60), (0.8, None, 45),
)  # fmt: skip


def render_html(shown: RenderedConcept) -> str:
    """The page, as text to be written in UTF-8."""
    result, told = shown.result, shown.page
    heads = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in result.key_numbers.items())
    paragraphs = "".join(f"<p>{escape(' '.join(p.split()))}</p>\n" for p in told.text.split("\n\n") if p.strip())
    formulas = "".join(f'<p class="formula">{render_formula_svg(tex, plain)}</p>\n' for plain, tex in told.formulas)
    look = "".join(f"<li>{escape(' '.join(sentence.split()))}</li>" for sentence in told.look)
    notes = "".join(f"<p><strong>Note:</strong> {escape(note)}</p>\n" for note in result.notes)
    above = f'<p class="chapter">{escape(told.chapter)}</p>\n<h1>{escape(told.title)}</h1>\n{paragraphs}{formulas}'
    below = (
        f"{notes}" + (f"<dl>{heads}</dl>\n" if heads else "") + f"<h2>What to look for</h2>\n<ul>{look}</ul>\n"
        f"<h2>Settings</h2>\n{_render_settings(shown)}\n"
        f"<h2>Repeat it</h2>\n<pre><code>{escape(shown.command)}</code></pre>\n"
        f'<p class="source">Source: {escape(told.source)}</p>'
    )
    # four letters hold three bytes
    budget = max(MIN_FRAME_BYTES, (MAX_BYTES - len(above) - len(below)) * 3 // 4)
    script = _SCRIPT if len(result.frames) > 1 else ""
    return html_document(told.title, above + _render_frames(shown, budget) + below, script, _STYLE)


def _render_settings(shown: RenderedConcept) -> str:
    from ..config import options
    from ..inference.explain_concept import format_setting

    rows = ""
    for key, (_, about, _) in options.option_fields(type(shown.asked)).items():
        value = escape(format_setting(getattr(shown.asked, key)))
        rows += f"<tr><td><code>{escape(key)}</code></td><td>{value}</td><td>{escape(about)}</td></tr>"
    return (
        '<div class="wide" tabindex="0"><table><thead><tr><th scope="col">setting</th><th scope="col">value</th>'
        f'<th scope="col">what it is</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _render_frames(shown: RenderedConcept, budget: int) -> str:
    """The figure: the first frame, over it what has changed in each of the others, the slider below them."""
    frames = shown.result.frames
    still = range(len(frames))[shown.result.key_frame]
    images = [frame.draw() for frame in frames]
    kind, contents = encode_frames(images, budget)
    size = f'width="{images[0].width // 2}" height="{images[0].height // 2}"'
    pictures = "".join(
        f'<img src="{data_uri(kind, content)}" alt="{escape(frame.caption)}" {size}{" hidden" if number > still else ""}>'
        for number, (frame, content) in enumerate(zip(frames, contents, strict=True))
    )
    caption = f'<figcaption aria-live="polite">{escape(frames[still].caption)}</figcaption>'
    bar = ""
    if len(frames) > 1:
        bar = (
            '<div class="bar"><button type="button" id="play" aria-label="play">&#9654;</button>'
            f'<input type="range" id="frame" min="0" max="{len(frames) - 1}" value="{still}" aria-label="step">'
            f'<output id="count">{still + 1} / {len(frames)}</output></div>'
        )
    return f'<figure><div class="wide" tabindex="0"><div class="stack">{pictures}</div></div>{bar}{caption}</figure>\n'


def encode_frames(images: Sequence[Image.Image], budget: int) -> tuple[str, list[bytes]]:
    """(format, files) of the first frame, and of what has changed since the one before in the others, else transparent.

    Written in the best way that keeps them together within `budget` bytes; in the smallest, if none does.
    """
    if not features.check("webp"):
        return "png", [
            _encode_image(layer, "PNG", optimize=True) for layer in delta_frames(_rescale_images(images, 1.0))
        ]
    estimates = {}
    for way in _ENCODINGS:
        estimates[way] = _estimate_size(images, way)
        # an estimate is a few per cent off, and writing all frames takes seconds
        if estimates[way] <= 1.05 * budget:
            made = _encode_layers(images, way)
            if sum(map(len, made)) <= budget:
                return "webp", made
    return "webp", _encode_layers(images, min(estimates, key=estimates.get))


def _encode_layers(images: Sequence[Image.Image], way: Encoding) -> list[bytes]:
    """All layers, written in such a way."""
    scale, colours, quality = way
    made = delta_frames(_quantize_images(_rescale_images(images, scale), colours))
    return list(prefetch_map(lambda layer: _encode_webp(layer, quality, 4), made))


def _estimate_size(images: Sequence[Image.Image], way: Encoding) -> float:
    """The bytes that all layers take together, judged by the first and by four of the others."""
    count, (scale, colours, quality) = len(images), way
    places = sorted({0, *(round(share * (count - 1)) for share in (0.3, 0.6, 0.8, 1.0))})
    needed = _rescale_images([images[near] for place in places for near in (max(0, place - 1), place)], scale)
    pairs = _quantize_images(needed, colours)
    chosen = [pairs[0], *(delta_frames(pairs[n : n + 2])[1] for n in range(2, len(pairs), 2))]
    first, *sizes = (len(content) for content in prefetch_map(lambda layer: _encode_webp(layer, quality, 2), chosen))
    return first + (sum(sizes) / len(sizes) if sizes else 0) * (count - 1)


def _rescale_images(images: Sequence[Image.Image], scale: float) -> list[Image.Image]:
    """The images at so many pixels per unit; drawn they have two."""
    if scale == 2.0:
        return list(images)
    size = (round(images[0].width * scale / 2), round(images[0].height * scale / 2))
    return [image.resize(size, Image.Resampling.LANCZOS) for image in images]


def _quantize_images(images: list[Image.Image], colours: int | None) -> list[Image.Image]:
    """The images in so many colours, the same for all of them."""
    if colours is None:
        return images
    palette = build_palette(images, colours)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB") for image in images]


def delta_frames(images: Sequence[Image.Image]) -> list[Image.Image]:
    """The first image, and for each other one that shows it when laid over all before it: what has changed.

    In blocks of pixels and with the blocks around them: where a browser scales a layer, its edges mix with what is
    below them, and that must be the same there.
    """
    found = [images[0]]
    for before, image in pairwise(images):
        red_HW, green_HW, blue_HW = np.moveaxis(np.asarray(image) != np.asarray(before), 2, 0)
        differs_HW = _dilate_blocks(red_HW | green_HW | blue_HW)
        if differs_HW.mean() > 0.6:  # another picture altogether
            found.append(image)
            continue
        over = Image.new("RGBA", image.size, (0, 0, 0, 0))
        over.paste(image, mask=Image.fromarray(np.where(differs_HW, 255, 0).astype(np.uint8)))
        found.append(over)
    return found


def _dilate_blocks(changed_HW: np.ndarray) -> np.ndarray:
    """Whether a pixel's block, or one of the eight beside it, has a pixel that changed."""
    height, width = changed_HW.shape
    padded = np.pad(changed_HW, ((0, -height % BLOCK_SIZE), (0, -width % BLOCK_SIZE)))
    blocks = padded.reshape(padded.shape[0] // BLOCK_SIZE, BLOCK_SIZE, -1, BLOCK_SIZE).any((1, 3))
    beside = np.lib.stride_tricks.sliding_window_view(np.pad(blocks, 1), (3, 3)).any((2, 3))
    return beside.repeat(BLOCK_SIZE, 0).repeat(BLOCK_SIZE, 1)[:height, :width]


def _encode_webp(image: Image.Image, quality: int | None, effort: int) -> bytes:
    """Without loss where there is no quality; with effort from 0 to 6."""
    how: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality, "alpha_quality": 100}
    return _encode_image(image, "WEBP", method=effort, **how)


def _encode_image(image: Image.Image, form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
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
dd { font-size: 1.1rem; }
@media print { .bar { display: none; } }
"""
_SCRIPT = """
"use strict";
const frames = [...document.querySelectorAll("figure img")];
const slider = document.getElementById("frame"), play = document.getElementById("play");
const count = document.getElementById("count"), caption = document.querySelector("figcaption");
let timer = null;
function show(number) {
  const now = Math.max(0, Math.min(frames.length - 1, number));
  frames.forEach((frame, place) => { frame.hidden = place > now; frame.ariaHidden = String(place !== now); });
  slider.value = now;
  slider.setAttribute("aria-valuetext", frames[now].alt);
  count.textContent = (now + 1) + " / " + frames.length;
  caption.textContent = frames[now].alt;
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
