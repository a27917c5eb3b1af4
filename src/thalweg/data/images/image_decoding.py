"""From any picture file to uint8 pixels: every mode and orientation, nothing trusted, nothing run.

Only formats whose decoders are plain (no EPS or PS, which start other programs) are opened, and a picture's extent is
checked before a byte of it is decoded.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

#: most pixels of one picture
MAX_PIXELS = 100_000_000

#: a picture this many times longer than wide is not resized whole: it might not fit into memory
MAX_ASPECT = 8

#: so many times the wanted pixels along each side are left where a JPEG is decoded at a fraction. A margin that is cut
#: off shows that the network reads large pictures, which lose little. A small network of CIFAR-10 answered 48
#: photographs with probabilities that were off by up to 0.19 where 2 times were left, 0.03 by 4, 0.01 by 8, 0 by 16
DRAFT_MARGIN, DRAFT_MARGIN_CROPPED = 16, 3

#: formats that cameras, browsers and drawing programs write; read whichever of these names the file has
COMMON_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
_JPEG_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif")
_COMMON_EXTENSIONS = {
    ".png": "PNG",
    **dict.fromkeys(_JPEG_EXTENSIONS, "JPEG"),
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
_FORMATS_BY_EXTENSION = {
    **dict.fromkeys(_COMMON_EXTENSIONS, COMMON_FORMATS),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    **dict.fromkeys((".pgm", ".ppm", ".pbm", ".pnm"), ("PPM",)),
    ".avif": ("AVIF",),
}
_ALL_FORMATS = (*COMMON_FORMATS, "TIFF", "PPM", "AVIF")

EXTENSIONS = frozenset(_FORMATS_BY_EXTENSION)

# `_open_image` has a lower limit of its own, so the warning would only come second.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


RESIZE_NOTE = "Images resized to {0}x{0}: shorter side scaled, center kept. Change it with --image-size."


class ImageReadError(Exception):
    """A picture that cannot be used; the text says why. Readers turn it into `Bad`."""


@dataclass(frozen=True)
class ImageHeader:
    """What the head of a picture file says: upright width and height in pixels, format, whether it has frames.

    `misnamed` is True for one common format under the name of another, which is harmless and frequent on the web.
    """

    width: int
    height: int
    format: str
    animated: bool
    misnamed: bool


def _open_image(source: Path | str | bytes) -> Image.Image:
    if isinstance(source, bytes):
        file, formats = io.BytesIO(source), _ALL_FORMATS
    else:
        file, formats = source, _FORMATS_BY_EXTENSION.get(Path(source).suffix.lower(), _ALL_FORMATS)
    picture = Image.open(file, formats=formats)
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageReadError(
            f"{picture.width} x {picture.height} pixels are more than the {MAX_PIXELS:,} that are read"
        )
    return picture


def _has_exif(picture: Image.Image) -> bool:
    return picture.format != "PNG" or "exif" in picture.info


def describe_error(error: Exception, source: Path | str | bytes) -> str:
    """Why a picture could not be read, in words for the user."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "it may not be read by this user"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read ({error.strerror})"
    if isinstance(error, Image.UnidentifiedImageError):
        if not isinstance(source, bytes) and not Path(source).stat().st_size:
            return "the file is empty"
        return (
            "it is no picture of a kind that its name allows" if not isinstance(source, bytes) else "it is no picture"
        )
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than the {MAX_PIXELS:,} pixels that are read"
    return f"damaged or cut off ({error})" if str(error) else f"damaged ({type(error).__name__})"


def read_header(source: Path | str | bytes) -> ImageHeader:
    """The facts in the head of a picture; the pixels are not decoded. Raises Unreadable."""
    try:
        with _open_image(source) as picture:
            # Pillow decodes a whole PNG to look for what may stand behind the pixels; cameras write it before them
            turned = _has_exif(picture) and picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = picture.size[::-1] if turned else picture.size
            form = "JPEG" if picture.format == "MPO" else picture.format
            named = form if isinstance(source, bytes) else _COMMON_EXTENSIONS.get(Path(source).suffix.lower(), form)
            animated = form != "JPEG" and getattr(picture, "is_animated", False)
            return ImageHeader(width, height, form, animated, named != form)
    except ImageReadError:
        raise
    except Exception as error:  # a decoder given a damaged file may raise anything
        raise ImageReadError(describe_error(error, source)) from None


def decode_image(
    source: Path | str | bytes, channels: int | None = None, size: int | None = None, resize: int | None = None
) -> np.ndarray:
    """The pixels (H, W, C) uint8 of a file or of a file's content, upright, on white where transparent.

    `channels` 1 is grey, 3 RGB, None grey where the picture is; `size` and `resize` are those of `fit`, without which
    the picture keeps its extent. Of an animation, the first frame. Raises Unreadable with the reason.
    """
    try:
        with _open_image(source) as picture:
            if size and picture.format in ("JPEG", "MPO"):
                _use_jpeg_draft(picture, size, resize)
            whole = apply_exif_orientation(picture, channels)
            return to_array(resize_and_crop(whole, size, resize) if size else whole, channels)
    except ImageReadError:
        raise
    except Exception as error:  # as in probe
        raise ImageReadError(describe_error(error, source)) from None


def apply_exif_orientation(picture: Image.Image, channels: int | None = None) -> Image.Image:
    """A Pillow image in mode L or RGB as by `to_gray_or_rgb`, turned as its EXIF says. Raises Unreadable."""
    if 0 in picture.size:
        raise ImageReadError("it has no pixels")
    try:
        picture.load()
        return ImageOps.exif_transpose(to_gray_or_rgb(picture, channels))
    except ImageReadError:
        raise
    except Exception as error:  # as in probe
        raise ImageReadError(describe_error(error, b"")) from None


def _use_jpeg_draft(picture: Image.Image, size: int, resize: int | None) -> None:
    """Has a large photograph decoded at 1/2, 1/4 or 1/8 of its extent, which leaves more pixels than are needed.

    Only where the fraction keeps the proportions: else the pixels would move. With `resize` that moves a byte by 0.25
    levels on average, hardly more than the order of the resizing's two passes does (0.17).
    """
    width, height = picture.size
    least = DRAFT_MARGIN_CROPPED * resize if resize else DRAFT_MARGIN * size
    for part in (8, 4, 2):
        if width % part == height % part == 0 and min(width, height) >= least * part:
            picture.draft(None, (width // part, height // part))
            return


def to_gray_or_rgb(picture: Image.Image, channels: int | None = None) -> Image.Image:
    """The picture in mode L or RGB: deep values scaled to 0..255, transparency on white; `channels` 1 is grey.

    Colours become grey before anything is resized, as for those who give an exported network grey pictures.
    """
    if channels == 1:
        return to_gray_or_rgb(picture).convert("L")
    mode = picture.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return Image.fromarray(to_8bit(np.asarray(picture)))
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        return _composite_on_white(picture.convert("RGBA"))
    if mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if mode == "1" else "RGB")


def to_8bit(values: np.ndarray) -> np.ndarray:
    """Deep grey values to 0..255 uint8, by the smallest usual white that holds them all: 1 (real numbers), 255, 65535.

    16-bit values always go by 65535; what fits none of these, by its own extent. Raises Unreadable for values that are
    not numbers.
    """
    if values.dtype in (np.uint16, np.dtype(">u2")):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.isfinite(values).all():
        raise ImageReadError("it holds values that are not finite numbers")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    white = next(
        (w for w in ((1.0,) if values.dtype.kind == "f" else ()) + (255.0, 65535.0) if low >= 0 and high <= w), None
    )
    low, span = (0.0, white) if white else (low, high - low)
    made = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 1024):  # in blocks, because the whole in double precision may be too large
        block = values[start : start + 1024].astype(np.float64)
        made[start : start + 1024] = np.round((block - low) * (255 / (span or 1)))
    return made


def _composite_on_white(picture: Image.Image) -> Image.Image:
    """A transparent picture laid on white; on black if white would swallow it, as it does strokes of white ink."""
    for paper in ("white", "black"):
        laid = Image.alpha_composite(Image.new("RGBA", picture.size, paper), picture).convert("RGB")
        if any(high > low for low, high in laid.getextrema()):
            break
    return laid


def resize_and_crop(picture: Image.Image, size: int, resize: int | None = None) -> Image.Image:
    """The middle `size` x `size` of the picture, its shorter side brought to `size`; smoothed when shrinking.

    With `resize`, at least `size`, the shorter side is brought to that instead, so that a margin is cut off all around:
    what networks for ImageNet are trained and tested with (resize 256, size 224). The longer side is rounded, where
    torchvision leaves the fraction of a pixel off; the published figures that we hold ourselves to were made so.
    """
    width, height = picture.size
    side = min(width, height)
    if resize:
        return _center_crop(picture, size, round(resize * width / side), round(resize * height / side))
    if (width, height) == (size, size):
        return picture
    left, top = (width - side) / 2, (height - side) / 2
    return _resize_box(picture, (size, size), (left, top, left + side, top + side))


def _center_crop(picture: Image.Image, size: int, width: int, height: int) -> Image.Image:
    """The middle `size` x `size` of the picture brought to `width` x `height`."""
    left, top = round((width - size) / 2), round((height - size) / 2)
    if max(width, height) <= MAX_ASPECT * min(width, height):
        across = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
        across = across.crop((left, 0, left + size, picture.height))
        return across.resize((size, height), Image.Resampling.BILINEAR).crop((0, top, size, top + size))
    return _center_crop_strip(picture, size, (left, top), (picture.width / width, picture.height / height))


def _center_crop_strip(
    picture: Image.Image, size: int, start: tuple[int, int], scale: tuple[float, float]
) -> Image.Image:
    """As `_center_crop`, but only what is kept is computed: Pillow holds a box in single precision, too coarse for that."""
    kept, weights = [], []
    for extent, first, step in zip(picture.size, start, scale, strict=True):
        reach = ceil(max(step, 1)) + 1
        low, high = max(0, floor(first * step) - reach), min(extent, ceil((first + size) * step) + reach)
        kept.append((low, high))
        weights.append(_resampling_weights(np.arange(low, high), first + np.arange(size), step))
    ((left, right), (top, bottom)), (across_Sw, down_Sh) = kept, weights
    values_Chw = to_array(picture.crop((left, top, right, bottom)), 3).transpose(2, 0, 1).astype(np.float64)
    made_CSS = _round_levels(down_Sh @ _round_levels(values_Chw @ across_Sw.T)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(made_CSS.transpose(1, 2, 0))).convert(picture.mode)


def _resampling_weights(pixel_L: np.ndarray, place_S: np.ndarray, scale: float) -> np.ndarray:
    """Pillow's weights (S, L) of pixels for places that are `scale` pixels apart: triangles, wider when shrinking."""
    triangle_SL = 1 - np.abs(pixel_L + 0.5 - (place_S[:, None] + 0.5) * scale) / max(scale, 1)
    triangle_SL = triangle_SL.clip(0)
    return np.floor(triangle_SL / triangle_SL.sum(1, keepdims=True) * 2**22 + 0.5)


def _round_levels(sums: np.ndarray) -> np.ndarray:
    """Sums of levels times such weights, rounded to levels."""
    return np.floor(sums / 2**22 + 0.5)


def _resize_box(picture: Image.Image, extent: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """The box (left, top, right, bottom) of a picture brought to `extent`, first across, then downwards.

    In one call Pillow takes the two passes in an order that its version chooses, and the two orders round differently.
    """
    left, top, right, bottom = box
    reach = ceil((bottom - top) / extent[1]) + 1  # rows beyond the box that smoothing reads
    first, last = max(0, floor(top) - reach), min(picture.height, ceil(bottom) + reach)
    if (first, last) != (0, picture.height):
        picture = picture.crop((0, first, picture.width, last))
    across = picture.resize((extent[0], last - first), Image.Resampling.BILINEAR, (left, 0, right, last - first))
    return across.resize(extent, Image.Resampling.BILINEAR, (0, top - first, extent[0], bottom - first))


def to_array(picture: Image.Image, channels: int | None) -> np.ndarray:
    """A picture of mode L or RGB as (H, W, C) uint8."""
    if channels == 1 and picture.mode == "RGB":
        picture = picture.convert("L")
    if channels == 3 and picture.mode == "L":
        picture = picture.convert("RGB")
    values = np.asarray(picture)
    if values.ndim == 2:
        return values[..., None]
    if channels is None and (values == values[..., :1]).all():
        return values[..., :1]
    return values
