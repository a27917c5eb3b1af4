"""Any picture of one hand-drawn character, brought to the form that MNIST's pictures have.

MNIST (LeCun et al. 1998, doi:10.1109/5.726791) shows white strokes on black. The stroke's longer side is 20 of 28 pixels
and its centre of mass is the centre of the picture; both hold for all but 13 of its 60,000 training pictures. A network
trained on it knows nothing else, so a photo of a pen stroke has to be brought there, step by step:

    levels       transparency, bit depth and colour become one brightness per pixel
    paper        is estimated as if nothing were drawn on it, light and shadow included; what differs from it is ink
    stroke       ink that belongs together; specks, rule lines and shadows of the edge are left out
    form         pen thickness, size, place

Everything was chosen on drawings made from MNIST's training pictures (tests/renderings.py).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError

#: longer side, in pixels, of the picture in which the stroke is looked for
SEEN = 256
#: longer side, in pixels, at which paper is estimated
COARSE = 64
#: pixels per pixel of the result in which the stroke is shaped
FINE = 6
WINDOW=0.4; SMOOTH=9; FAR=99.5
#: pen thickness that is left alone, as a share of the stroke's longer side
PENS = (0.085, 0.2)


def ink(image: Image.Image | np.ndarray, size: int = 28) -> np.ndarray:
    """The character in `image` as MNIST would show it: (size, size) uint8, white on black."""
    picture = _opened(image)
    ready = _ready(picture, size)
    if ready is not None:
        return ready
    levels = _levels(picture)
    cover, kept = _stroke(levels)
    return _formed(np.where(kept, cover, 0), size)


# --- levels ----------------------------------------------------------------------------------------------------------


def _opened(image):
    """(H, W, 3) float32, 0 to 255, transparency laid over white or black, whichever shows more."""
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image, dtype=np.float32)
        top = deep.max(initial=0)
        scale = 1.0 if 1 < top <= 255 else 255 / (65535 if top > 255 else 1)
        return np.repeat((deep * scale)[..., None], 3, axis=2)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"), dtype=np.float32)
    clear = np.asarray(image.convert("RGBA"), dtype=np.float32)
    colour, alpha = clear[..., :3], clear[..., 3:] / 255
    white, black = colour * alpha + 255 * (1 - alpha), colour * alpha
    return white if white.std() >= black.std() else black


def _from_array(array):
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == bool or np.issubdtype(array.dtype, np.floating):
        array = (np.clip(array.astype(np.float32), 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def _resized(plane, height, width, how=Image.Resampling.BOX):
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), how))


def _fitted(plane, longest):
    """`plane` (H, W) made smaller, if need be, so that its longer side is `longest`."""
    height, width = plane.shape
    scale = min(1.0, longest / max(height, width))
    return _resized(plane, max(1, round(height * scale)), max(1, round(width * scale)))


def _levels(picture):
    """(H, W) brightness along the colour in which pen and paper differ most, and whether the pen is the lighter one."""
    small = np.stack([_fitted(picture[..., c], SEEN) for c in range(3)], axis=-1)
    # what differs from its surroundings: slow changes of the light would hide the pen's own colour
    near = np.stack([_spread(small[..., c], max(3, max(small.shape) // 3)) for c in range(3)], axis=-1)
    apart = (small - near).reshape(-1, 3)
    values, vectors = np.linalg.eigh(apart.T @ apart)
    axis = vectors[:, -1]
    levels = picture @ (axis / np.abs(axis).sum()).astype(np.float32)
    return levels


def _spread(plane, window):
    """Mean over a square window, cut at the edges."""
    for axis in (0, 1):
        n = plane.shape[axis]
        total = np.concatenate([np.zeros_like(plane.take([0], axis)), plane.cumsum(axis, dtype=np.float64)], axis)
        stop, start = np.minimum(np.arange(n) + window // 2 + 1, n), np.maximum(np.arange(n) - window // 2, 0)
        shape = (-1, 1) if axis == 0 else (1, -1)
        plane = (total.take(stop, axis) - total.take(start, axis)) / (stop - start).reshape(shape)
    return plane


# --- paper and stroke ------------------------------------------------------------------------------------------------


def _extreme(plane, window, highest):
    pick = np.max if highest else np.min
    for axis in (0, 1):
        half = window // 2
        around = [(0, 0), (0, 0)]
        around[axis] = (half, half)
        padded = np.pad(plane, around, constant_values=-np.inf if highest else np.inf)
        plane = pick(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis), axis=-1)
    return plane


def _bowl(small):
    """The paper's light as a surface of second degree, fitted to what most of the picture, above all its edge, shows."""
    y, x = np.meshgrid(np.linspace(-1, 1, small.shape[0]), np.linspace(-1, 1, small.shape[1]), indexing="ij")
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    value = small.reshape(-1).astype(np.float64)
    trust = np.where(np.maximum(np.abs(x), np.abs(y)) > 0.85, 1.0, 0.3).reshape(-1)
    weight = np.sqrt(trust)
    for _ in range(15):  # reweighting by the distance turns least squares into least distances, which a stroke cannot bend
        surface = terms @ np.linalg.lstsq(terms * weight[:, None], value * weight, rcond=None)[0]
        weight = np.sqrt(trust / np.maximum(np.abs(value - surface), 0.02 * np.ptp(value) + 1e-6))
    return surface.reshape(small.shape)


def _lift(levels):
    """How far every pixel rises from the paper towards the pen."""
    small = _fitted(levels, COARSE)
    bowl = _bowl(small)
    away = small - bowl
    pen = 1 if (away**3).sum() >= 0 else -1
    window = max(3, round(WINDOW * max(small.shape)) | 1)
    opened = _extreme(_extreme(pen * away, window, highest=False), window, highest=True)
    paper = pen * bowl + _spread(opened, SMOOTH)
    lift = pen * levels - _resized(paper, *levels.shape, Image.Resampling.BILINEAR)
    return lift - np.median(lift)


def _otsu(values):
    """The level that divides `values` best in two (Otsu 1979, doi:10.1109/TSMC.1979.4310076)."""
    counts, edges = np.histogram(values, 128)
    middle = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * middle).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + np.nanargmax(between[:-1])])


def _stroke(levels):
    """cover (H, W) 0..1 of the pen, and the mask of what is kept."""
    lift = _lift(_fitted(levels, SEEN))
    cut = _otsu(lift)
    core = lift > cut
    if not core.any() or core.all():
        raise DataError("There is no stroke in the picture.", cure="Draw one character, darker or lighter than the paper.")
    full = np.percentile(lift[core], 60)
    around = _extreme(core.astype(np.float32), max(3, max(core.shape) // 20 | 1), highest=True) > 0
    far = lift[~around]
    floor = np.clip(np.percentile(far, FAR) if far.size else 0, 0, 0.6 * full)
    cover = np.clip((lift - floor) / (full - floor), 0, 1)
    return cover, _belongs(cover)


def _belongs(cover):
    """Mask of the pieces that make up the character: large enough"""
    mask = cover > 0.3
    pieces = _pieces(mask)
    weight = np.bincount(pieces.ravel(), weights=(cover * mask).ravel())
    weight[0] = 0
    keep = weight >= 0.06 * weight.max()
    keep[0] = False
    return keep[pieces]


def _pieces(mask):
    """A number for every pixel: 0 off the mask, otherwise one number per connected piece (8 neighbours)."""
    height, width = mask.shape
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        before = label
        most = _extreme(label.astype(np.float64), 3, highest=True).astype(np.int64)
        most = np.where(mask, most, 0)
        # jump to where the neighbour's own number points, which halves the distance left
        flat = np.concatenate([[0], most.ravel()])
        label = flat[flat[most]]
        if (label == before).all():
            break
    return np.unique(label, return_inverse=True)[1].reshape(mask.shape) if (label == 0).any() else label * 0 + 1


# --- form ------------------------------------------------------------------------------------------------------------


def _extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _side(size):
    """Longer side of the stroke: 20 of 28 as in MNIST; small formats (the 8x8 digits, the 16x16 of USPS) are filled."""
    return size if size <= 16 else round(size * 20 / 28)


def _formed(cover, size):
    rows, columns = _extent(cover > 0)
    cover = cover[rows, columns]
    side = _side(size)
    fine = side * FINE
    scale = fine / max(cover.shape)
    large = _resized(cover, max(1, round(cover.shape[0] * scale)), max(1, round(cover.shape[1] * scale)), Image.Resampling.BICUBIC)
    large = np.pad(np.clip(large, 0, 1), fine // 4)
    mask = large > 0.5
    rows, columns = _extent(mask)
    mask = mask[rows, columns]
    scale = side / max(mask.shape)
    small = _resized(mask, max(1, round(mask.shape[0] * scale)), max(1, round(mask.shape[1] * scale)), Image.Resampling.BOX)
    small = (small / small.max() * 255).round().astype(np.uint8)
    return _placed(small, size)


def _placed(stroke, size):
    """The stroke on black (size, size), its centre of mass in the middle as far as it fits."""
    out = np.zeros((size, size), np.uint8)
    at = []
    for axis in (0, 1):
        n = stroke.shape[axis]
        weight = stroke.sum(1 - axis, dtype=np.float64)
        middle = (n - 1) / 2 if size <= 16 else (weight * np.arange(n)).sum() / weight.sum()
        target = (size - 1) / 2 if size <= 16 else size / 2
        at.append(int(np.clip(np.floor(target - middle + 0.5), 0, size - n)))
    out[at[0] : at[0] + stroke.shape[0], at[1] : at[1] + stroke.shape[1]] = stroke
    return out


def _ready(picture, size):
    return None
