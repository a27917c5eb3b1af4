"""Drawings made from network-ready digits: the same stroke as a scan, a photo, a marker, a pencil, a painted picture.

Test material only. `ink()` has to bring each of these back to something that a network trained on the originals reads
as the same digit. Everything is a function of the random generator that is passed in.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

CLEAN_KINDS = ("enlarged", "inverted", "coloured", "transparent", "cropped", "painted")
KINDS = (*CLEAN_KINDS, "photo", "scan", "ruled", "thin", "marker")


def render(stroke: np.ndarray, kind: str, random: np.random.Generator) -> Image.Image:
    """A picture of `stroke` (S, S) uint8, white on black, as `kind` (one of KINDS) would show it; any size and mode."""
    scale = float(np.exp(random.uniform(np.log(1.5), np.log(20))))
    if kind == "painted":
        return _paint_by_hand(stroke, random)
    if kind in ("thin", "marker"):
        pen = random.uniform(0.7, 1.6) if kind == "thin" else random.uniform(3.5, 5.0)
        cover = redraw_stroke(stroke, pen, max(scale, 3.0 if kind == "thin" else 1.5))
    else:
        cover = _enlarge(stroke, scale)
    cover = _place_randomly(cover, random, margin=0.04 if kind == "cropped" else random.uniform(0.15, 1.0))
    paper, pen_colour = _sample_colors(kind, random)
    if kind == "transparent":
        return _draw_transparent(cover, pen_colour, random)
    picture = np.broadcast_to(np.asarray(paper, float), (*cover.shape, 3)).copy()
    if kind in ("photo", "ruled"):
        picture *= _paper_texture(cover.shape, random)[..., None]
    if kind == "ruled":
        picture = _draw_ruled_lines(picture, np.asarray(pen_colour, float), random)
    picture += cover[..., None] * (np.asarray(pen_colour, float) - picture)
    if kind in ("photo", "ruled", "scan", "marker", "thin"):
        picture = _simulate_photo(picture, strength=0.25 if kind == "scan" else 1.0, random=random)
    return _encode_image(picture, kind, random)


def skeletonize(mask: np.ndarray) -> np.ndarray:
    """The strokes of `mask` (H, W) bool thinned to one pixel (Zhang & Suen 1984, doi:10.1145/357994.358023)."""
    mask = np.pad(mask, 1).astype(np.uint8)
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            n, ne, e, se, s, sw, w, nw = ring = [
                np.roll(mask, shift, (0, 1))
                for shift in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            ]
            neighbours = sum(ring)
            rises = sum((a == 0) & (b == 1) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
            edge = (n * e * s == 0) & (e * s * w == 0) if first else (n * e * w == 0) & (n * s * w == 0)
            gone = (mask == 1) & (neighbours >= 2) & (neighbours <= 6) & (rises == 1) & edge
            mask[gone] = 0
            changed |= bool(gone.any())
    return mask[1:-1, 1:-1].astype(bool)


def redraw_stroke(stroke: np.ndarray, pen: float, scale: float) -> np.ndarray:
    """The cover (0 to 1) by a round pen that follows the stroke, `pen` of its pixels wide; `scale` times as large."""
    fine = 4
    line = skeletonize(_enlarge(stroke, fine) > 0.4)
    rows, columns = np.nonzero(line)
    side = round(stroke.shape[0] * scale)
    y, x = (np.arange(side) + 0.5) / scale * fine - 0.5, (np.arange(side) + 0.5) / scale * fine - 0.5
    nearest = np.full((side, side), np.inf)
    for row, column in zip(rows, columns, strict=True):
        top, bottom = np.searchsorted(y, (row - 14, row + 14))
        left, right = np.searchsorted(x, (column - 14, column + 14))
        window = nearest[top:bottom, left:right]
        np.minimum(window, np.hypot(y[top:bottom, None] - row, x[None, left:right] - column), out=window)
    return np.clip((pen * fine / 2 - nearest) * scale / fine + 0.5, 0, 1)


def _enlarge(stroke: np.ndarray, scale: float) -> np.ndarray:
    side = round(stroke.shape[0] * scale)
    large = Image.fromarray(stroke).convert("F").resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(large) / 255, 0, 1)


def _place_randomly(cover: np.ndarray, random: np.random.Generator, margin: float) -> np.ndarray:
    """Turned a little, cropped to the stroke, and put somewhere on a canvas with up to `margin` of its side around."""
    turn = Image.fromarray(cover.astype(np.float32))
    grown = round(max(cover.shape) * 0.15)
    turn = np.asarray(turn.rotate(random.uniform(-8, 8), Image.Resampling.BILINEAR))
    turn = np.clip(np.pad(turn, grown), 0, 1)
    rows, columns = np.flatnonzero((turn > 0.1).any(1)), np.flatnonzero((turn > 0.1).any(0))
    turn = turn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(turn.shape)
    around = [1 + round(side * margin * random.uniform(0.15, 1)) for _ in range(4)]
    return np.pad(turn, (around[:2], around[2:]))


def _sample_colors(kind: str, random: np.random.Generator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(paper, pen) as RGB 0..255."""
    if kind in ("enlarged", "cropped") and random.random() < 0.5 or kind == "painted":
        return (0, 0, 0), (255, 255, 255)
    if kind in ("enlarged", "inverted", "cropped"):
        return (255, 255, 255), (0, 0, 0)
    if kind == "coloured" and random.random() < 0.3:
        return tuple(random.uniform(0, 60, 3)), tuple(random.uniform(150, 255, 3))
    paper = random.uniform(170, 255) + random.uniform(-12, 0, 3)
    pens = ((20, 20, 25), (25, 45, 140), (170, 25, 35), (20, 110, 50), (90, 90, 95))
    return tuple(paper), pens[random.integers(len(pens))]


def _smooth_noise(shape: tuple[int, int], cells: int, random: np.random.Generator) -> np.ndarray:
    coarse = Image.fromarray(random.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC), dtype=float)


def _paper_texture(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Uneven paper: a factor around 1 for every pixel."""
    return 1 + 0.02 * _smooth_noise(shape, 9, random) + 0.015 * random.standard_normal(shape)


def _draw_ruled_lines(picture: np.ndarray, pen: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Pale lines across the paper, or squares, slightly askew."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    gap, slope = max(picture.shape[:2]) / random.uniform(3, 8), random.uniform(-0.03, 0.03)
    width = max(1.0, gap * 0.04)
    lines = ((rows + slope * columns + random.uniform(0, gap)) % gap) < width
    if random.random() < 0.5:
        lines |= ((columns - slope * rows + random.uniform(0, gap)) % gap) < width
    strength = random.uniform(0.1, 0.4)
    tint = picture + strength * (pen.mean() - picture)
    return np.where(lines[..., None], tint, picture)


def _simulate_photo(picture: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Uneven light, darker corners, a soft shadow, a soft lens and a noisy sensor."""
    height, width = picture.shape[:2]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    angle = random.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    light = 1 - strength * (0.25 * random.random() * (along + 1) + 0.15 * random.random() * (x**2 + y**2))
    if random.random() < 0.3 * strength:
        edge = random.uniform(-0.6, 0.6)
        light = light * (1 - 0.3 * random.random() / (1 + np.exp(-(along - edge) * random.uniform(8, 30))))
    blurred = Image.fromarray(np.clip(picture * np.clip(light, 0.2, 1)[..., None], 0, 255).astype(np.uint8))
    blurred = blurred.filter(ImageFilter.GaussianBlur(strength * random.uniform(0, 0.012) * max(height, width)))
    return np.asarray(blurred, dtype=float) + strength * random.uniform(0, 8) * random.standard_normal(picture.shape)


def _encode_image(picture: np.ndarray, kind: str, random: np.random.Generator) -> Image.Image:
    """As a file would be opened: JPEG, grey, palette, 16 bits, or as it is."""
    image = Image.fromarray(np.clip(picture.round(), 0, 255).astype(np.uint8))
    choice = random.integers(5)
    if choice == 0:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(random.integers(40, 95)))
        return Image.open(packed)
    if choice == 1:
        return image.convert("L")
    if choice == 2 and kind in ("enlarged", "inverted", "coloured"):
        return image.quantize(32)
    if choice == 3:
        return Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)
    return image


def _draw_transparent(cover: np.ndarray, pen: tuple[float, ...], random: np.random.Generator) -> Image.Image:
    """A pen on nothing, or a whole drawing that is not fully opaque."""
    alpha = (cover * 255).round().astype(np.uint8)
    if random.random() < 0.6:
        colour = np.asarray(pen if random.random() < 0.5 else (255, 255, 255), np.uint8)
        return Image.fromarray(np.dstack([np.broadcast_to(colour, (*cover.shape, 3)), alpha]))
    return Image.fromarray(np.dstack([255 - alpha, np.full_like(alpha, random.integers(120, 250))]))


def _paint_by_hand(stroke: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Drawn by hand straight into a picture, white on black: any place, size and pen, often without soft edges.

    Half of the pictures are as small as the stroke's.
    """
    side = stroke.shape[0] if random.random() < 0.5 else int(random.integers(100, 500))
    scale = random.uniform(0.7, 1.2) * side / stroke.shape[0]
    cover = redraw_stroke(stroke, random.uniform(1.0, 3.5) / min(1, scale), scale)
    if random.random() < 0.5:
        cover = (cover > 0.5).astype(float)
    rows, columns = np.flatnonzero((cover > 0.1).any(1)), np.flatnonzero((cover > 0.1).any(0))
    cover = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][:side, :side]
    top, left = (int(random.integers(side - length + 1)) for length in cover.shape)
    canvas = np.zeros((side, side))
    canvas[top : top + cover.shape[0], left : left + cover.shape[1]] = cover
    return Image.fromarray((canvas * 255).round().astype(np.uint8))
