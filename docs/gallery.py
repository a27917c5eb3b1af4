"""Draws every concept into docs/gallery/, with what came along with the package or was trained here, and lists them.

python docs/gallery.py [NAME ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import thalweg
from thalweg import registry
from thalweg.concepts.base import CHAPTERS
from thalweg.inference.inputs import RUN_REQUIRED
from thalweg.plots import animation as films

OUT = Path(__file__).parent / "gallery"
#: the run of the concepts that are about one
RUN = Path("runs/gallery")
#: what is shown beside the defaults: file name -> concept, words, settings
MORE = {
    "descent-himmelblau": ("descent", (), {"surface": "himmelblau"}),
    "training-rates": ("training", (), {"compare": "rates"}),
    "convolution-sobel": ("convolution", (), {"kernel": "sobel"}),
}
#: concepts whose steps are shown as a film too
FILMS = ("training", "descent", "convolution", "backprop")


def small(image: Image.Image) -> Image.Image:
    """900 pixels wide, in 128 colours."""
    image.thumbnail((900, 1200), Image.Resampling.LANCZOS)
    return image.quantize(palette=films.build_palette([image], 128), dither=Image.Dither.NONE)


def words_of(name: str) -> tuple:
    """The run, for a concept that is about one; it is trained if it is not there."""
    if registry.get_concepts()[name].subject not in RUN_REQUIRED:
        return ()
    if not (RUN / "run.json").exists():
        thalweg.train("classify", "digits", model="lenet", epochs=20, threads=1, out=RUN)
    return (RUN,)


def main(wanted: list[str]) -> None:
    """Writes the pictures of the wanted concepts (all, if none are named), and the list of all that are there."""
    OUT.mkdir(exist_ok=True)
    concepts = registry.get_concepts()
    asked = {name: (name, words_of(name), {}) for name in concepts} | {
        file: (name, words_of(name), given) for file, (name, _, given) in MORE.items() if name in concepts
    }
    lines = ["# Every concept, drawn", "", "Made by `make gallery`; each picture says the command that draws it.", ""]
    for chapter in CHAPTERS:
        lines += [f"## {chapter}", ""]
        for file, (name, words, given) in asked.items():
            page = concepts[name].page
            if page.chapter != chapter:
                continue
            shown = thalweg.explain(name, *words, **given)
            if not wanted or file in wanted:
                small(shown.draw()).save(OUT / f"{file}.png", optimize=True)
                if file in FILMS:
                    (OUT / f"{file}.gif").write_bytes(films.encode_gif([frame.draw() for frame in shown.result.frames]))
                print(f"{OUT / file}.png")
            lines += [f"### {page.title}", "", f"`{shown.command}`", "", f"![{page.title}]({file}.png)", ""]
            if file in FILMS:
                lines += [f"[Step by step]({file}.gif)", ""]
    (OUT / "README.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
