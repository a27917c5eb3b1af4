"""HTML pages in one file that need no network: the document around the content, its style, and embedded images.

Pages escape all names from users. If an escape is ever missed, a content security policy forbids the page to load
anything and to run anything but its own script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from typing import Any

from PIL import Image, features

#: larger images are also encoded lossily, and the smaller encoding wins
_LOSSLESS_LIMIT = 200_000
#: control characters, and the surrogates of undecodable file names
_INVALID_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def html_document(title: str, body: str, script: str = "", style: str = "") -> str:
    """Return a complete page, to be written as UTF-8.

    Args:
        title: Title of the page, as text.
        body: Content of the page, as HTML.
        script: The only script that may run in the page.
        style: CSS to add to that of all pages.

    Returns:
        The document.
    """
    policy = _CSP
    script_element = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        script_element = f"<script>{script}</script>\n"
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n{script_element}</body>\n</html>\n"
    )


def escape(text: object) -> str:
    """Escape a text for HTML, and replace characters that HTML or UTF-8 cannot represent by U+FFFD."""
    return html.escape(_INVALID_CHARACTERS.sub("\ufffd", str(text)))


def image_data_uri(image: Image.Image) -> str:
    """Return a data URI of an image."""
    image_format, content = encode_image(image)
    return data_uri(image_format, content)


def data_uri(image_format: str, content: bytes) -> str:
    """Return a data URI of a file of type image/`image_format`."""
    return f"data:image/{image_format};base64,{base64.b64encode(content).decode()}"


def encode_image(image: Image.Image) -> tuple[str, bytes]:
    """Encode an image and return (format, bytes).

    Plots become lossless WebP, large images such as photographs lossy WebP. Without WebP in Pillow, all become PNG.
    """
    if not features.check("webp"):
        return "png", _save(image, "PNG", optimize=True)
    lossless = _save(image, "WEBP", lossless=True, method=2)
    if len(lossless) <= _LOSSLESS_LIMIT:
        return "webp", lossless
    return "webp", min(lossless, _save(image, "WEBP", quality=85, method=2), key=len)


def _save(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


_CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { --ink: #1d2126; --soft: #5b646e; --paper: #ffffff; --card: #f4f6f8; --line: #d9dee3; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebee; --soft: #a5afb9; --paper: #15181c; --card: #1f2429; --line: #363d45; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 964px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 8px; overflow-wrap: anywhere; }
p { margin: 8px 0; max-width: 70ch; overflow-wrap: anywhere; }
a { color: var(--accent); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0; }
dl div { background: var(--card); border-radius: 8px; padding: 12px 14px; display: flex; flex-direction: column-reverse;
  justify-content: flex-end; }
dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
dt { color: var(--soft); font-size: 0.85rem; line-height: 1.35; }
pre { background: var(--card); border-radius: 8px; padding: 12px 14px; white-space: pre-wrap; overflow-wrap: anywhere;
  margin: 8px 0; font-size: 0.875rem; }
nav ul { list-style: none; padding: 0; margin: 24px 0 0; display: flex; flex-wrap: wrap; gap: 4px 18px;
  font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 7ch; }
th { color: var(--soft); font-weight: 600; }
td, dd, dt, code, p, h1, h2, figcaption { unicode-bidi: isolate; }
summary { cursor: pointer; color: var(--accent); margin: 8px 0; }
figure { margin: 12px 0; }
figure .wide { background: #ffffff; border-radius: 8px; padding: 10px; border: 1px solid var(--line); }
img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: 0.875rem; margin-top: 6px; max-width: 80ch; }
@media (max-width: 700px) { h1 { font-size: 1.5rem; } figure .wide { padding: 4px; } }
@media print {
  :root { --ink: #000000; --soft: #444444; --paper: #ffffff; --card: #f4f4f4; --line: #cccccc; --accent: #000000; }
  body { font-size: 11pt; }
  nav, summary { display: none; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  figure, tr, dl div { break-inside: avoid; }
  h2 { break-after: avoid; }
  .wide { overflow: visible; }
  img, img[width="900"] { max-width: 100%; width: auto; }
}
"""
