"""Decode any image file to uint8 pixels: every mode and orientation, without trusting the file.

Only formats with plain decoders are opened (no EPS or PS, which start other programs), and the size of an image is
checked before a byte of it is decoded.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...config.size import PixelSize, to_height_width

#: maximum number of pixels of an image
MAX_PIXELS = 100_000_000

#: maximum width or height: decoders hold a row at once, or a pointer per row, and resizing needs weights per pixel
MAX_SIDE = 1_000_000

#: an image this many times longer than wide is cropped before it is resized, to save memory
MAX_ASPECT = 8

#: A JPEG is decoded at a fraction of its size if that leaves this many times the required pixels along each side. With
#: a crop margin (`resize`), the model reads large images, which lose little. Without it, a small CIFAR-10 network
#: changed its probabilities for 48 photos by up to 0.19 with a margin of 2, 0.03 with 4, 0.01 with 8 and 0 with 16.
DRAFT_MARGIN = 16
DRAFT_MARGIN_CROPPED = 3

#: formats of cameras, browsers and drawing programs; read under the file extension of any of them
COMMON_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
_JPEG_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif")
_COMMON_EXTENSIONS = {
    ".png": "PNG",
    **dict.fromkeys(_JPEG_EXTENSIONS, "JPEG"),
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
_FORMATS_BY_EXTENSION: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_COMMON_EXTENSIONS, COMMON_FORMATS),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    **dict.fromkeys((".pgm", ".ppm", ".pbm", ".pnm"), ("PPM",)),
    ".avif": ("AVIF",),
}
ALL_FORMATS = (*COMMON_FORMATS, "TIFF", "PPM", "AVIF")

EXTENSIONS = frozenset(_FORMATS_BY_EXTENSION)

#: path of an image file, or its content
ImageSource = str | os.PathLike[str] | bytes

#: modes of images without colors, beside those with 16 bits
_GRAY_MODES = ("1", "L", "LA", "La", "I", "F")

#: EXIF tag of the orientation, and its values that exchange width and height
ORIENTATION_TAG = 0x0112
_TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)

#: `to_8bit` works on this many rows at once, because all of them in double precision may be too large
_ROWS_AT_ONCE = 1024

#: Pillow's weights are whole multiples of 1 / 2^22
_WEIGHT_SCALE = 2**22

#: a JPEG or PNG file has the mark of its end in so many last bytes
TRAILER_BYTES = 64
#: Lengths of a cropped center are whole multiples of 1 / 8 of a pixel: Pillow holds them in single precision.
_CROP_STEPS = 8

# Pillow warns about harmless irregularities of files; `load_images` counts the warnings instead of printing them.
warnings.filterwarnings("ignore", module=r"PIL\.")


def describe_resize(size: PixelSize) -> str:
    """Say what `resize_and_crop` did to images that were not of `size`."""
    height, width = to_height_width(size)
    scaled = "shorter side scaled" if height == width else "scaled until they cover it"
    return f"Images resized to {width}x{height}: {scaled}, center kept. Change it with --image-size."


class ImageReadError(Exception):
    """An image that cannot be read, with the reason. Readers turn it into an `UnreadableFile`."""


@dataclass(frozen=True)
class ImageHeader:
    """Properties from the header of an image file.

    Attributes:
        width: Width in pixels, after applying the EXIF orientation.
        height: Height in pixels, after applying the EXIF orientation.
        format: Pillow's name of the format.
        animated: The file has several frames.
        misnamed: The file has the extension of another common format. This is harmless and frequent on the web.
        gray: The format of the pixels has no colors.
    """

    width: int
    height: int
    format: str
    animated: bool
    misnamed: bool
    gray: bool = False


def open_image(source: ImageSource, content: bytes | None = None) -> Image.Image:
    """Open an image of a format with a plain decoder, without decoding it. Raises ImageReadError and Pillow's errors.

    `content` is what has been read from the file, if it has been.
    """
    formats: Sequence[str] = ALL_FORMATS
    if not isinstance(source, bytes):
        formats = _FORMATS_BY_EXTENSION.get(os.path.splitext(source)[1].lower(), ALL_FORMATS)
    elif content is None:
        content = source
    if content is not None:
        image = Image.open(io.BytesIO(content), formats=formats)
    else:
        image = Image.open(os.fspath(source), formats=formats)
    _check_size(image)
    return image


def _check_size(image: Image.Image) -> None:
    """Raise ImageReadError for an image with too many pixels to decode."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageReadError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are supported")
    if max(width, height) > MAX_SIDE:
        raise ImageReadError(f"{width} x {height} pixels; at most {MAX_SIDE:,} along a side are supported")


def describe_error(error: Exception, source: ImageSource) -> str:
    """Describe for the user why an image could not be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read ({error.strerror})"
    if isinstance(error, MemoryError):
        return "it needs more memory than is free"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS:,} pixels that are supported"
    if isinstance(error, Image.UnidentifiedImageError):
        return _describe_unidentified(source)
    if str(error):
        return f"damaged or truncated ({error})"
    return f"damaged ({type(error).__name__})"


def _describe_unidentified(source: ImageSource) -> str:
    if isinstance(source, bytes):
        return "not an image" if source else "the file is empty"
    if not Path(source).stat().st_size:
        return "the file is empty"
    return "not an image of a format that its file extension allows"


def read_header(source: ImageSource) -> ImageHeader:
    """Read the header of an image file or of its content, without decoding pixels. Raises ImageReadError."""
    try:
        with open_image(source) as image:
            return _header_of(image, source)
    except ImageReadError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise ImageReadError(describe_error(error, source)) from None


def _header_of(image: Image.Image, source: ImageSource) -> ImageHeader:
    width, height = image.size
    # Without this check Pillow decodes a whole PNG in search of EXIF data behind the pixels; cameras write it in front.
    if image.format != "PNG" or "exif" in image.info:
        if image.getexif().get(ORIENTATION_TAG, 1) in _TRANSPOSED_ORIENTATIONS:
            width, height = height, width
    image_format = image.format or ""
    if image_format == "MPO":
        image_format = "JPEG"
    expected_format = image_format
    if not isinstance(source, bytes):
        expected_format = _COMMON_EXTENSIONS.get(Path(source).suffix.lower(), image_format)
    animated = image_format != "JPEG" and getattr(image, "is_animated", False)
    is_gray = image.mode in _GRAY_MODES or image.mode.startswith("I;16")
    return ImageHeader(width, height, image_format, animated, expected_format != image_format, is_gray)


def inspect_image(source: ImageSource, content: bytes) -> ImageHeader:
    """Read the header of an image, and make sure that `content` is all of it. Raises ImageReadError.

    A JPEG that ends as it should, and a PNG whose checksums hold, are not decoded. Any other file is, which tells
    whether it can be used.
    """
    try:
        with open_image(source, content) as image:
            header = _header_of(image, source)
            if not _is_complete(image, content):
                with open_image(source, content) as image_again:
                    to_array(apply_exif_orientation(image_again), None)
            return header
    except ImageReadError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise ImageReadError(describe_error(error, source)) from None


def _is_complete(image: Image.Image, content: bytes) -> bool:
    """Tell whether a JPEG ends with the mark of its end, or the checksums of a PNG hold; False for other formats."""
    if 0 in image.size:
        return False
    if image.format in ("JPEG", "MPO"):
        return content.rfind(b"\xff\xd9", -TRAILER_BYTES) >= 0
    if image.format == "PNG" and content.rfind(b"IEND", -TRAILER_BYTES) >= 0:
        with suppress(Exception):  # a damaged file; decoding it says how
            image.verify()
            return True
    return False


def decode_image(
    source: ImageSource,
    channels: int | None = None,
    image_size: PixelSize | None = None,
    resize: int | None = None,
) -> np.ndarray:
    """Decode an image file, upright, on white where it is transparent. Of an animation, decode the first frame.

    Args:
        source: Path of a file, or its content.
        channels: 1 (gray), 3 (RGB), or None: gray if all pixels are gray.
        image_size: Height and width of the result, see `resize_and_crop`; None keeps the size.
        resize: See `resize_and_crop`.

    Returns:
        Pixels (H, W, C) uint8.

    Raises:
        ImageReadError: The image cannot be read, with the reason.
    """
    try:
        with open_image(source) as image:
            if image_size and image.format in ("JPEG", "MPO"):
                _use_jpeg_draft(image, image_size, resize)
            upright = apply_exif_orientation(image, channels)
            if image_size:
                upright = resize_and_crop(upright, image_size, resize)
            return to_array(upright, channels)
    except ImageReadError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise ImageReadError(describe_error(error, source)) from None


def apply_exif_orientation(image: Image.Image, channels: int | None = None) -> Image.Image:
    """Return an upright image in mode L or RGB, see `to_gray_or_rgb`. Raises ImageReadError."""
    if 0 in image.size:
        raise ImageReadError("it has no pixels")
    _check_size(image)
    try:
        image.load()
        return ImageOps.exif_transpose(to_gray_or_rgb(image, channels))
    except ImageReadError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise ImageReadError(describe_error(error, b"")) from None


def _use_jpeg_draft(image: Image.Image, image_size: PixelSize, resize: int | None) -> None:
    """Let Pillow decode a large photo at 1/2, 1/4 or 1/8 of its size, if that leaves more pixels than are needed.

    Only if the fraction keeps the aspect ratio; otherwise the pixels would move. With `resize` this changes a value by
    0.25 levels on average, hardly more than the order of the two resizing passes does (0.17).
    """
    width, height = image.size
    target_height, target_width = to_height_width(image_size)
    if target_height != target_width and image.getexif().get(ORIENTATION_TAG, 1) in _TRANSPOSED_ORIENTATIONS:
        target_height, target_width = target_width, target_height
    shorter = min(target_height, target_width)
    margin = DRAFT_MARGIN_CROPPED * resize if resize else DRAFT_MARGIN * shorter
    for divisor in (8, 4, 2):
        is_whole = width % divisor == height % divisor == 0
        is_wide = width * shorter >= margin * divisor * target_width
        is_high = height * shorter >= margin * divisor * target_height
        if is_whole and is_wide and is_high:
            image.draft(None, (width // divisor, height // divisor))
            return


def to_gray_or_rgb(image: Image.Image, channels: int | None = None) -> Image.Image:
    """Convert an image to mode L or RGB: deep values scaled to 0..255, transparency on white.

    With `channels` 1, colors become gray before anything is resized, as in an exported model that is given gray images.
    """
    if channels == 1:
        return to_gray_or_rgb(image).convert("L")
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return Image.fromarray(to_8bit(np.asarray(image)))
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _composite_on_white(image.convert("RGBA"))
    if mode in ("L", "RGB"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def to_8bit(values: np.ndarray) -> np.ndarray:
    """Scale deep gray values to 0..255 uint8.

    16-bit values are scaled by 65535, all others by the smallest of 1 (floats), 255 and 65535 that is at least their
    maximum. Values that fit none of these are scaled by their own range. Raises ImageReadError for values that are not
    finite.
    """
    if values.dtype in (np.uint16, np.dtype(">u2")):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.isfinite(values).all():
        raise ImageReadError("it contains values that are not finite")
    low = float(values.min(initial=0))
    high = float(values.max(initial=0))
    white_levels = [255.0, 65535.0]
    if values.dtype.kind == "f":
        white_levels.insert(0, 1.0)
    fitting = [white for white in white_levels if low >= 0 and high <= white]
    if fitting:
        low = 0.0
        high = fitting[0]
    scale = 255 / ((high - low) or 1)
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        block = values[start : start + _ROWS_AT_ONCE].astype(np.float64)
        scaled[start : start + _ROWS_AT_ONCE] = np.round((block - low) * scale)
    return scaled


def _composite_on_white(image: Image.Image) -> Image.Image:
    """Put a transparent image on white, or on black if it would vanish on white, as white strokes do."""
    composite = _composite(image, "white")
    pixels = np.asarray(composite)
    if (pixels.min(axis=(0, 1)) < pixels.max(axis=(0, 1))).any():
        return composite
    return _composite(image, "black")


def _composite(image: Image.Image, background: str) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")


def resize_and_crop(image: Image.Image, image_size: PixelSize, resize: int | None = None) -> Image.Image:
    """Return the largest center of an image that has the proportions of `image_size`, resized to it.

    Antialiased when shrinking. With `resize`, at least the shorter side of `image_size`, the image is resized until it
    covers a size with that shorter side, and the center is cropped, as ImageNet models are trained and tested (resize
    256, crop 224). The longer side is rounded, while torchvision truncates it; the published accuracies that we
    reproduce were measured with rounding.
    """
    size = to_height_width(image_size)
    if resize:
        return _center_crop(image, size, _covering_size(image, size, resize))
    if (image.height, image.width) == size:
        return image
    height, width = _center_size(image.height, image.width, size)
    left = (image.width - width) / 2
    top = (image.height - height) / 2
    return _resize_box(image, (size[1], size[0]), (left, top, left + width, top + height))


def _center_size(height: int, width: int, size: tuple[int, int]) -> tuple[float, float]:
    """Return height and width of the largest part of an image with the proportions of `size`."""
    if width * size[0] >= height * size[1]:
        return height, _round_length(height * size[1], size[0])
    return _round_length(width * size[0], size[1]), width


def _round_length(numerator: int, denominator: int) -> float:
    return max(1, floor(_CROP_STEPS * numerator / denominator + 0.5)) / _CROP_STEPS


def _covering_size(image: Image.Image, size: tuple[int, int], resize: int) -> tuple[int, int]:
    """Return height and width of an image resized until it covers `size`, enlarged to a shorter side of `resize`."""
    if image.width * size[0] >= image.height * size[1]:
        side, target = image.height, size[0]
    else:
        side, target = image.width, size[1]
    scale = min(size) * side
    return round(resize * target * image.height / scale), round(resize * target * image.width / scale)


def _center_crop(image: Image.Image, size: tuple[int, int], resized: tuple[int, int]) -> Image.Image:
    """Resize an image to `resized` and crop the center of `size`, both height and width."""
    height, width = resized
    left = round((width - size[1]) / 2)
    top = round((height - size[0]) / 2)
    if max(width, height) > MAX_ASPECT * min(width, height):
        scale = (image.height / height, image.width / width)
        return _center_crop_strip(image, size, (top, left), scale)
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    across = across.crop((left, 0, left + size[1], image.height))
    down = across.resize((size[1], height), Image.Resampling.BILINEAR)
    return down.crop((0, top, size[1], top + size[0]))


def _center_crop_strip(
    image: Image.Image, size: tuple[int, int], start: tuple[int, int], scale: tuple[float, float]
) -> Image.Image:
    """Do what `_center_crop` does to a long strip, computing only the pixels of the result.

    Pillow's own box argument would not do: it is held in single precision, which is too coarse for a strip.
    """
    top, bottom, vertical_Hh = _source_weights(image.height, start[0], size[0], scale[0])
    left, right, horizontal_Ww = _source_weights(image.width, start[1], size[1], scale[1])
    pixels_Chw = to_array(image.crop((left, top, right, bottom)), 3).transpose(2, 0, 1).astype(np.float64)
    rows_ChW = _round_weighted_sums(pixels_Chw @ horizontal_Ww.T)
    pixels_CHW = _round_weighted_sums(vertical_Hh @ rows_ChW).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0))).convert(image.mode)


def _source_weights(length: int, first: int, count: int, scale: float) -> tuple[int, int, np.ndarray]:
    """Return the range of source pixels that `count` resized pixels from `first` on depend on, and their weights."""
    reach = ceil(max(scale, 1)) + 1
    low = max(0, floor(first * scale) - reach)
    high = min(length, ceil((first + count) * scale) + reach)
    return low, high, _resampling_weights(np.arange(low, high), first + np.arange(count), scale)


def _resampling_weights(pixel_L: np.ndarray, position_S: np.ndarray, scale: float) -> np.ndarray:
    """Return Pillow's bilinear weights (S, L) of source pixels for resized pixels that are `scale` pixels apart."""
    distance_SL = np.abs(pixel_L + 0.5 - (position_S[:, None] + 0.5) * scale)
    triangle_SL = 1 - distance_SL / max(scale, 1)
    triangle_SL = triangle_SL.clip(0)
    return np.floor(triangle_SL / triangle_SL.sum(1, keepdims=True) * _WEIGHT_SCALE + 0.5)


def _round_weighted_sums(sums: np.ndarray) -> np.ndarray:
    """Round sums of levels times `_resampling_weights` to levels."""
    return np.floor(sums / _WEIGHT_SCALE + 0.5)


def _resize_box(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """Resize the box (left, top, right, bottom) of an image to `size` (width, height), first across, then down.

    In a single call, the order of Pillow's two passes depends on its version, and the two orders round differently.
    """
    left, top, right, bottom = box
    reach = ceil((bottom - top) / size[1]) + 1  # rows beyond the box that smoothing reads
    first = max(0, floor(top) - reach)
    last = min(image.height, ceil(bottom) + reach)
    if (first, last) != (0, image.height):
        image = image.crop((0, first, image.width, last))
    resized = image.resize((size[0], last - first), Image.Resampling.BILINEAR, (left, 0, right, last - first))
    return resized.resize(size, Image.Resampling.BILINEAR, (0, top - first, size[0], bottom - first))


def to_array(image: Image.Image, channels: int | None) -> np.ndarray:
    """Return an image of mode L or RGB as (H, W, C) uint8; with `channels` None, gray if all pixels are gray."""
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    if channels == 3 and image.mode == "L":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[..., None]
    if channels is None and (pixels == pixels[..., :1]).all():
        return pixels[..., :1]
    return pixels
