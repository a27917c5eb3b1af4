"""Decode any image file to uint8 pixels: every mode and orientation, without trusting the file.

Only formats with plain decoders are opened (no EPS or PS, which start other programs), and the size of an image is
checked before a byte of it is decoded.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...config.size import PixelSize, to_height_width
from .image_resizing import resize_and_crop, to_array

#: maximum number of pixels of an image
MAX_PIXELS = 100_000_000

#: maximum width or height: decoders hold a row at once, or a pointer per row, and resizing needs weights per pixel
MAX_SIDE = 1_000_000


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
TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)

#: `to_8bit` works on this many rows at once, because all of them in double precision may be too large
_ROWS_AT_ONCE = 1024


#: a JPEG or PNG file has the mark of its end in so many last bytes
TRAILER_BYTES = 64

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


@contextmanager
def open_image(source: ImageSource, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image of a format with a plain decoder; nothing is decoded yet.

    Args:
        source: Path of a file, or its content.
        content: What has been read from the file, if it has been.

    Raises:
        ImageReadError: For whatever goes wrong here and inside the `with` block, where the image is decoded.
    """
    try:
        with _open(source, content) as image:
            _check_size(image)
            yield image
    except ImageReadError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise ImageReadError(describe_error(error, source)) from error


def _open(source: ImageSource, content: bytes | None) -> Image.Image:
    formats: Sequence[str] = ALL_FORMATS
    if not isinstance(source, bytes):
        formats = _FORMATS_BY_EXTENSION.get(os.path.splitext(source)[1].lower(), ALL_FORMATS)
    elif content is None:
        content = source
    if content is not None:
        return Image.open(io.BytesIO(content), formats=formats)
    return Image.open(os.fspath(source), formats=formats)


def _check_size(image: Image.Image) -> None:
    """Raise ImageReadError for an image with too many pixels to decode."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageReadError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are supported")
    if max(width, height) > MAX_SIDE:
        raise ImageReadError(f"{width} x {height} pixels; at most {MAX_SIDE:,} along a side are supported")


def describe_error(error: Exception, source: ImageSource) -> str:
    """Describe for the user why an image could not be read."""
    if isinstance(error, ImageReadError):
        return str(error)
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
    with open_image(source) as image:
        return _header_of(image, source)


def _header_of(image: Image.Image, source: ImageSource) -> ImageHeader:
    width, height = image.size
    # Without this check Pillow decodes a whole PNG in search of EXIF data behind the pixels; cameras write it in front.
    if image.format != "PNG" or "exif" in image.info:
        if image.getexif().get(ORIENTATION_TAG, 1) in TRANSPOSED_ORIENTATIONS:
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
    with open_image(source, content) as image:
        header = _header_of(image, source)
        if not _is_complete(image, content):
            with open_image(source, content) as image_again:
                to_array(apply_exif_orientation(image_again), None)
        return header


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
    with open_image(source) as image:
        if image_size and image.format in ("JPEG", "MPO"):
            _use_jpeg_draft(image, image_size, resize)
        upright = apply_exif_orientation(image, channels)
        if image_size:
            upright = resize_and_crop(upright, image_size, resize)
        return to_array(upright, channels)


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
    if target_height != target_width and image.getexif().get(ORIENTATION_TAG, 1) in TRANSPOSED_ORIENTATIONS:
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
