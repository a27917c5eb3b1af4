"""Read documents: their code blocks, the commands in them, and the material that the commands use."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent.parent
CLASSES = ("cat", "dog", "horse")
IMAGES_PER_CLASS = 12


def find_documents() -> list[Path]:
    """Return every Markdown file of the repository that users read."""
    folders = (ROOT, ROOT / "docs", ROOT / "docs" / "gallery", ROOT / "benchmarks", ROOT / "benchmarks" / "parity")
    return [path for folder in folders for path in sorted(folder.glob("*.md"))]


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block. `line` is that of its first line, counted from 1."""

    document: Path
    line: int
    language: str
    text: str

    def commands(self) -> list[str]:
        """Return the lines of a shell block, without comments."""
        stripped = [re.split(r"(?:^|\s)#\s", line)[0].strip() for line in self.text.splitlines()]
        return [line for line in stripped if line]


def read_blocks(document: Path, language: str | None = None) -> list[CodeBlock]:
    """Return the fenced blocks of a document, or those of one language."""
    text = document.read_text(encoding="utf-8")
    blocks = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(2)) + 1
        if language in (None, match[1]):
            blocks.append(CodeBlock(document, line, match[1], match[2]))
    return blocks


def find_inline_commands(document: Path) -> list[str]:
    """Return the commands of thalweg in code spans, which may be wrapped."""
    text = document.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`(thalweg [^`]+)`", prose)
    return [" ".join(span.split()) for span in spans]


def split_command(command: str) -> list[str]:
    """Return the words after `thalweg`."""
    return shlex.split(command)[1:]


def write_material(folder: Path) -> None:
    """Write the files that the documents' commands name: photos, a table of them, a text, series, pairs, a digit."""
    random = np.random.default_rng(0)
    rows = ["path,label"]
    for channel, name in enumerate(CLASSES):
        class_folder = folder / "photos" / name
        class_folder.mkdir(parents=True)
        for k in range(IMAGES_PER_CLASS):
            pixels_HWC = random.normal(110, 40, (32, 32, 3))
            pixels_HWC[..., channel] += 60
            path = class_folder / f"{k}.png"
            Image.fromarray(pixels_HWC.clip(0, 255).astype(np.uint8)).save(path)
            rows.append(f"photos/{name}/{k}.png,{name}")
    (folder / "photos.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    photo = Image.open(folder / "photos" / "cat" / "0.png")
    for name in ("photo.jpg", "holiday.jpg"):
        photo.save(folder / name)
    (folder / "broken.jpg").write_bytes(b"")
    lines = [f"Once upon a time there were {random.integers(2, 99)} mice.\n" for _ in range(100)]
    (folder / "book.txt").write_text("".join(lines), encoding="utf-8")
    start = date(2025, 1, 1)
    rows = ["ds,sales,price"]
    for day in range(400):
        rows.append(f"{start + timedelta(day)},{100 + 20 * (day % 7 < 5) + random.normal():.1f},{9 + day % 3}")
    (folder / "sales.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "recent.csv").write_text("\n".join([rows[0], *rows[-150:]]) + "\n", encoding="utf-8")
    pairs = [f"the {size} dog runs {k}\tder {size} Hund läuft {k}" for k in range(60) for size in ("big", "old")]
    (folder / "pairs.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    digit = Image.new("L", (120, 160), 255)
    ImageDraw.Draw(digit).line([(40, 30), (30, 90), (95, 85)], fill=0, width=9)
    ImageDraw.Draw(digit).line([(85, 20), (75, 140)], fill=0, width=9)
    digit.save(folder / "my_digit.png")
