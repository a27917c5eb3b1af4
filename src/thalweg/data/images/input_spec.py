"""From an image of any kind to the model's input: size, channels, normalization, as an InputSpec says."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...config.json_record import FieldError
from ...config.parsing import Range
from ...config.size import PixelSize, to_height_width
from ...errors import DataError, OptionError
from ...io.file_names import encode_file_name
from ...layers.tta import TTA
from ..base import DataRequest, UnreadableFile
from ..prefetch import prefetch_map
from .dataset import ImageDataset, ImageSplit, summarize_images
from .handwriting import normalize_handwriting
from .image_decoding import (
    ImageReadError,
    apply_exif_orientation,
    decode_image,
    describe_error,
    resize_and_crop,
    to_8bit,
    to_array,
    to_gray_or_rgb,
)
from .load import load_dataset
from .npz import resize_dataset
from .raw_dataset import RawDataset, ReadOptions
from .splits import split_dataset
from .stored_images import StoredImages

#: maximum number of images in a batch, and of all their pixels, where nothing is trained. On a CPU, larger batches
#: leave the cache: ResNet-50 at 224x224 is a fifth faster with batches of 8 than of 32.
MAX_IMAGES = 500
MAX_PIXELS_CPU = 500_000
MAX_PIXELS_GPU = 20_000_000
#: difference of the brightest and the darkest level below which an image is blank
MIN_CONTRAST = 16
#: images with a longer side are not padded to squares
MAX_PADDED_SIDE = 512


@dataclass(frozen=True)
class InputSpec:
    """What a classifier must know of its images; JSON values, kept in run.json.

    `mean` and `std` are per channel on the scale of 0 to 1. With `resize`, images are resized until they cover `size`
    enlarged to this shorter side, before the center of `size` is cropped. `handwriting`: the images are strokes, white
    on black, centered by mass, as in MNIST. `classes` is empty only for initial weights of which no more than the
    preprocessing is known.
    """

    classes: Annotated[list[str], "class names, in the order of the logits"]
    channels: Annotated[int, "1 (gray) or 3 (RGB)", Range(1, 3)]
    size: Annotated[list[int], "height and width", Range(1, 10_000)]
    mean: Annotated[list[float], "mean per channel", Range(-1e6, 1e6)]
    std: Annotated[list[float], "standard deviation per channel", Range(0, 1e6, above=True)]
    handwriting: Annotated[bool, "whether images are handwriting as in MNIST"] = False
    resize: Annotated[int | None, "shorter side before the center crop", Range(1, 10_000)] = None
    tta: Annotated[TTA, "test-time augmentation"] = "none"
    class_counts: Annotated[list[int], "training images per class", Range(0, 1e12)] = field(default_factory=list)

    def __post_init__(self):
        if self.channels == 2:
            raise FieldError("channels", "1 or 3")
        lists = (("size", 2), ("mean", self.channels), ("std", self.channels))
        for name, length in lists:
            if len(getattr(self, name)) != length:
                raise FieldError(name, f"{length} numbers")
        if self.handwriting and self.size[0] != self.size[1]:
            raise FieldError("size", "a square, because the images are handwriting")

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.size[0], self.size[1]


def load_for_model(
    request: DataRequest, image_size: PixelSize | None, spec: InputSpec | None, storage: str = "auto"
) -> ImageDataset:
    """Read images from a path, a named data set, an ImageDataset or a pair of arrays (images, labels).

    With a model's `spec`, images get its size and channels. `storage`: see `load_dataset`. Raises DataError, and
    OptionError for handwriting that is requested at another size than a square.
    """
    source = request.source
    if isinstance(source, ImageDataset):
        return source
    size = None if image_size is None else to_height_width(image_size)
    if isinstance(source, tuple | list) and len(source) == 2:
        raw = _from_arrays(*source)
        if size is not None:
            return split_dataset(resize_dataset(raw, ReadOptions(size)), "arrays", request)
        dataset = split_dataset(raw, "arrays", request)
        is_expected = spec is not None and dataset.shape[:2] == spec.height_width
        return dataset if is_expected else pad_to_square(dataset)
    if spec is None:
        dataset = load_dataset(request, size, storage=storage)
    else:
        size = size or spec.height_width
        dataset = load_dataset(request, size, scale_resize(spec, size), spec.channels, storage)
    if dataset.is_handwriting and size is not None:
        require_square(size)
    return dataset


def scale_resize(spec: InputSpec, size: tuple[int, int]) -> int | None:
    """Return the `resize` that leaves the same margin around `size` as that of `spec` around its own size."""
    return round(spec.resize * min(size) / min(spec.size)) if spec.resize else None


def require_square(size: tuple[int, int]) -> None:
    """Raise OptionError for a size at which handwriting cannot be normalized: MNIST's form is a square."""
    height, width = size
    if height != width:
        raise OptionError(
            f"--image-size: {width}x{height} for images of handwriting; expected a square.",
            f"Give --image-size {max(size)}.",
            option="image_size",
            value=f"{width}x{height}",
            allowed=[min(size), max(size)],
        )


def _from_arrays(images: np.ndarray, labels: np.ndarray) -> RawDataset:
    """Build a data set from images (N, H, W) or (N, H, W, C) and labels (N,). Raises DataError."""
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"{len(images)} images and {len(labels)} labels; expected as many of both.",
            value=(len(images), len(labels)),
        )
    arrays = []
    for image in images:
        array = to_uint8(image)
        if array.ndim == 2:
            array = array[..., None]
        arrays.append(array)
    stack = np.stack(arrays)
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    sources = [f"row {row}" for row in range(len(stack))]
    split = ImageSplit(stack, codes.astype(np.int64), sources)
    return RawDataset("arrays", "arrays", tuple(map(str, classes)), {"train": split})


def eval_batch_size(spec: InputSpec, device: torch.device | str = "cpu") -> int:
    """Return the batch size for evaluation and prediction."""
    max_pixels = MAX_PIXELS_GPU
    if torch.device(device).type == "cpu":
        max_pixels = MAX_PIXELS_CPU
    return max(1, min(MAX_IMAGES, max_pixels // max(1, spec.size[0] * spec.size[1])))


def preprocess_image(source: Any, spec: InputSpec, raw: bool = False) -> np.ndarray:
    """Return a file, bytes, Pillow image or array as (H, W, C) uint8 of the model's size.

    Drawings are normalized to white on black, centered, where the model was trained on such; `raw` leaves them.
    Raises DataError.
    """
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    is_file = isinstance(source, str | bytes)
    normalize = spec.handwriting and not raw
    try:
        if is_file and not normalize:
            return decode_image(source, spec.channels, spec.height_width, spec.resize)
        if is_file:
            pixels = decode_image(source)
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        else:
            image = Image.fromarray(to_uint8(source)) if isinstance(source, np.ndarray | Tensor) else source
            image = apply_exif_orientation(image, None if normalize else spec.channels)
        if normalize:
            return _normalize_drawing(image, spec)
        return to_array(resize_and_crop(image, spec.height_width, spec.resize), spec.channels)
    except ImageReadError as error:
        raise DataError(str(error)) from error
    except MemoryError as error:  # concerns this image alone, and must not end the prediction of the others
        raise DataError(describe_error(error, b"")) from error


def _normalize_drawing(image: Image.Image, spec: InputSpec) -> np.ndarray:
    """Normalize a drawing; where it is tiny, or no stroke is found in it, only resize it."""
    if max(image.size) <= spec.size[0] // 2:
        return _resize_tiny(image, spec)
    try:
        return normalize_handwriting(image, spec.size[0])[..., None]
    except DataError:
        gray = np.asarray(image.convert("L"))
        if int(gray.max()) - int(gray.min()) < MIN_CONTRAST:
            raise
        return to_array(resize_and_crop(image, spec.height_width, None), spec.channels)


def _resize_tiny(image: Image.Image, spec: InputSpec) -> np.ndarray:
    """Enlarge an image in which strokes are a pixel or two wide; dark strokes on white are inverted."""
    pixels = to_array(resize_and_crop(to_gray_or_rgb(image, spec.channels), spec.height_width, None), spec.channels)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return 255 - pixels if border.mean() > 127 else pixels


def to_uint8(array: np.ndarray | Tensor) -> np.ndarray:
    """Return an image (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as uint8.

    White is 255, True, 65535 in uint16, and 1 in floats; tensors (1 or 3, H, W) are accepted too. Raises DataError.
    """
    if isinstance(array, Tensor):
        array = array.detach().cpu().numpy()
        if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3, 4):
            array = array.transpose(1, 2, 0)
    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"An array of shape {array.shape} is not an image; expected (H, W), or (H, W, C) with 1, 3 or 4 channels.",
            value=array.shape,
        )
    if array.shape[2:] == (1,):
        array = array[..., 0]
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind == "u" and array.itemsize == 2:
        return to_8bit(array)
    high = 255
    slack = 0
    if kind == "f":
        high = 1.0
        slack = 1e-3  # resizing may go a little beyond black and white
    if kind not in "fiu" or not (array.min() >= -slack and array.max() <= high + slack):
        raise DataError(
            f"An array of {array.dtype} with values outside of 0 to {high:g} is not an image.",
            "Use floats from 0 to 1, uint8, uint16 or bool.",
            value=str(array.dtype),
        )
    if kind == "f":
        array = np.round(array.clip(0, 1) * 255)
    return np.ascontiguousarray(array).astype(np.uint8)


def to_normalized_float(image_BHWC: Tensor, spec: InputSpec) -> Tensor:
    """Convert bytes (B, H, W, C) to floats (B, C, H, W), channels last in memory, standardized over training."""
    return standardize_(image_BHWC.permute(0, 3, 1, 2).to(torch.float32), spec, 255.0)


def standardize_(x_BCHW: Tensor, spec: InputSpec, white: float) -> Tensor:
    """Compute (x / white - mean) / std per channel, in place; mean and std are on the scale of 0 to 1."""
    if len(spec.mean) == 1:
        mean, std = spec.mean[0], spec.std[0]
        return x_BCHW.mul_(1 / (white * std)).sub_(mean / std)
    factor_C11, offset_C11 = mean_std_tensors(tuple(spec.mean), tuple(spec.std), white, x_BCHW.device)
    return x_BCHW.mul_(factor_C11).sub_(offset_C11)


@lru_cache(maxsize=64)
def mean_std_tensors(
    mean: tuple[float, ...], std: tuple[float, ...], white: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return factor and offset (C, 1, 1), cached: a CUDA graph cannot fetch them from the host."""
    with torch.inference_mode(False):  # inference tensors could not take part in training later
        mean_C11 = torch.tensor(mean, device=device)[:, None, None]
        std_C11 = torch.tensor(std, device=device)[:, None, None]
        return 1 / (white * std_C11), mean_C11 / std_C11


def normalize_drawings(dataset: ImageDataset, spec: InputSpec) -> ImageDataset:
    """Normalize every image of a dataset as `predict` does; unreadable images are skipped and listed."""
    unreadable = list(dataset.unreadable)
    splits = {name: _normalize_split(split, spec, unreadable) for name, split in dataset.splits.items()}
    return replace(
        dataset,
        splits=splits,
        summary=summarize_images(dataset.classes, splits["train"].images),
        unreadable=tuple(unreadable),
        is_handwriting=True,
    )


def _normalize_split(split: ImageSplit, spec: InputSpec, unreadable: list[UnreadableFile]) -> ImageSplit:
    def read_one(row: int) -> np.ndarray | UnreadableFile:
        source = split.sources[row]
        try:
            if isinstance(split.images, StoredImages):
                return preprocess_image(split.images.encoded.read(row), spec)
            file = encode_file_name(source)
            return preprocess_image(file if os.path.isfile(file) else split.images[row], spec)
        except DataError as error:
            return UnreadableFile(source, error.message)
        except (ImageReadError, OSError) as error:
            return UnreadableFile(source, str(error))

    images: list[np.ndarray] = []
    rows: list[int] = []
    for row, result in enumerate(prefetch_map(read_one, range(len(split)))):
        if isinstance(result, UnreadableFile):
            unreadable.append(result)
        else:
            images.append(result)
            rows.append(row)
    array = np.array(images, np.uint8).reshape(-1, *spec.size, 1)
    return replace(split.take(np.array(rows, np.int64)), images=array)


def pad_to_square(dataset: ImageDataset) -> ImageDataset:
    """Add a black border to images that are wider than high, or the reverse."""
    height, width, _ = dataset.shape
    if height == width:
        return dataset
    side = max(height, width)
    if side > MAX_PADDED_SIDE:
        raise DataError(
            f"{dataset.name}: images of {width}x{height} are too large to pad; expected squares.",
            "Use --image-size.",
            path=dataset.path,
            value=[width, height],
        )
    top = (side - height) // 2
    left = (side - width) // 2
    margins = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))
    splits = {}
    for name, split in dataset.splits.items():
        splits[name] = replace(split, images=np.pad(split.images[:], margins))
    return replace(
        dataset,
        splits=splits,
        summary=summarize_images(dataset.classes, splits["train"].images),
        warnings=(*dataset.warnings, f"Images of {width}x{height} were padded with black to {side}x{side}."),
    )
