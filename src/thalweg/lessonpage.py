"""The page of a concept: one file with text, formulas and every frame under a slider; works offline, light and dark."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, features

from .draw.formula import formula
from .webpage import address, document, safe

if TYPE_CHECKING:
    from .lessons import Shown

#: bytes that all frames of a page take together, where any way of writing them is small enough
BUDGET = 270_000
#: the ways of writing a frame, best first: pixels per unit of the drawing, and WebP's quality; None is without loss
_WAYS = ((2.0, None), (2.0, 90), (2.0, 75), (1.5, 75), (1.25, 65), (1.0, 60), (0.8, 45))


def page(shown: Shown) -> str:
    """The page, as text to be written in UTF-8."""
    lesson, told = shown.lesson, shown.page
    heads = "".join(f"<div><dt>{safe(k)}</dt><dd>{safe(v)}</dd></div>" for k, v in lesson.figures.items())
    paragraphs = "".join(f"<p>{safe(' '.join(p.split()))}</p>\n" for p in told.text.split("\n\n") if p.strip())
    formulas = "".join(f'<p class="formula">{formula(tex, plain)}</p>\n' for plain, tex in told.formulas)
    look = "".join(f"<li>{safe(' '.join(sentence.split()))}</li>" for sentence in told.look)
    notes = "".join(f"<p><strong>Note:</strong> {safe(note)}</p>\n" for note in lesson.notes)
    body = (
        f'<p class="chapter">{safe(told.chapter)}</p>\n<h1>{safe(told.title)}</h1>\n'
        f"{paragraphs}{formulas}{_frames(shown)}{notes}"
        + (f"<dl>{heads}</dl>\n" if heads else "")
        + f"<h2>What to look for</h2>\n<ul>{look}</ul>\n"
        f"<h2>Settings</h2>\n{_settings(shown)}\n"
        f"<h2>Repeat it</h2>\n<pre><code>{safe(shown.command)}</code></pre>\n"
        f'<p class="source">Source: {safe(told.source)}</p>'
    )
    return document(told.title, body, _SCRIPT if len(lesson.frames) > 1 else "", _STYLE)


def _settings(shown: Shown) -> str:
    from . import options
    from .lessons import told

    rows = ""
    for key, (_, about, _) in options.fields_of(type(shown.asked)).items():
        value = safe(told(getattr(shown.asked, key)))
        rows += f"<tr><td><code>{safe(key)}</code></td><td>{value}</td><td>{safe(about)}</td></tr>"
    return (
        '<div class="wide" tabindex="0"><table><thead><tr><th scope="col">setting</th><th scope="col">value</th>'
        f'<th scope="col">what it is</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _frames(shown: Shown) -> str:
    """The figure: the frames one over the other, the slider below them."""
    frames = shown.lesson.frames
    still = range(len(frames))[shown.lesson.still]
    kind, contents = small([frame.draw() for frame in frames])
    size = frames[still].draw().size
    pictures = "".join(
        f'<img src="{address(kind, content)}" alt="{safe(frame.caption)}" width="{size[0] // 2}" '
        f'height="{size[1] // 2}"{"" if number == still else " hidden"}>'
        for number, (frame, content) in enumerate(zip(frames, contents, strict=True))
    )
    caption = f'<figcaption aria-live="polite">{safe(frames[still].caption)}</figcaption>'
    bar = ""
    if len(frames) > 1:
        bar = (
            '<div class="bar"><button type="button" id="play" aria-label="play">&#9654;</button>'
            f'<input type="range" id="frame" min="0" max="{len(frames) - 1}" value="{still}" aria-label="step">'
            f'<output id="count">{still + 1} / {len(frames)}</output></div>'
        )
    return f'<figure><div class="wide" tabindex="0">{pictures}</div>{bar}{caption}</figure>\n'


def small(images: Sequence[Image.Image], budget: int = BUDGET) -> tuple[str, list[bytes]]:
    """(format, files) of the frames, in the best way of writing that keeps them together within `budget` bytes."""
    if not features.check("webp"):
        return "png", [_written(image, 1.0, "PNG", optimize=True) for image in images]
    for scale, quality in _WAYS:
        how: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
        sample = images[:: max(1, len(images) // 4)]
        mean = sum(len(_written(image, scale, "WEBP", method=2, **how)) for image in sample) / len(sample)
        if mean * len(images) <= budget:
            break
    return "webp", [_written(image, scale, "WEBP", method=4, **how) for image in images]


def _written(image: Image.Image, scale: float, form: str, **how: Any) -> bytes:
    if scale != 2.0:
        size = (round(image.width * scale / 2), round(image.height * scale / 2))
        image = image.resize(size, Image.Resampling.LANCZOS)
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
img[hidden] { display: none; }
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
  frames.forEach((frame, place) => { frame.hidden = place !== now; });
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
