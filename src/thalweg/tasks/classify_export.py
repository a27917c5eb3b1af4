"""How a classifier is exported: preprocessing inside, and proof on image files of many kinds that it agrees.

What stands between a decoded image and the model is part of the file: resizing as Pillow does it, mean and std, softmax
at the end. So nobody has to rebuild it, and what is compared is the full way from the bytes of an image file.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.ExifTags import Base
from torch import Tensor, nn

from ..data.images.image_decoding import DRAFT_MARGIN, DRAFT_MARGIN_CROPPED, decode_image
from ..data.images.input_spec import InputSpec, preprocess_image, to_normalized_float
from ..layers.pillow_resize import resize_and_crop
from ..layers.tta import predict_proba
from ..version import __version__
from .base import ExportProof, ExportSpec

#: the largest difference of a probability that counts as the same prediction
TOLERANCE = 1e-4
#: the same for a large JPEG, which `thalweg predict` decodes at a fraction of its size: levels move by one or two,
#: which moved a probability of a small model by up to 0.014
SCALED_JPEG_TOLERANCE = 0.05
#: most pixels of such a JPEG: each takes more than a hundred bytes to compare
MAX_PIXELS = 6_000_000
#: sizes (h, w) of the images that predictions are compared on, as factors of the model's input
TEST_ASPECTS = ((1.6, 1.3), (0.7, 1.1), (1.1, 3.2), (2.9, 1.0), (0.4, 0.4))

#: predictions (N, K) of images (N, h, w, C) uint8
Runner = Callable[[np.ndarray], np.ndarray]


class ExportableModel(nn.Module):
    """From bytes (N, h, w, C) of any size to probabilities (N, K)."""

    def __init__(self, model: nn.Module, spec: InputSpec):
        super().__init__()
        self.model = model
        self.spec = spec

    def forward(self, image_NhwC: Tensor) -> Tensor:
        """Resize, normalize, predict."""
        resized_NHWC = resize_and_crop(image_NhwC, self.spec.height_width, self.spec.resize)
        return predict_proba(self.model, to_normalized_float(resized_NHWC, self.spec), self.spec.tta)


def build_export_spec(model: nn.Module, spec: InputSpec, samples_NHWC: np.ndarray | None) -> ExportSpec:
    """Describe the export of a classifier; without samples the proof is on noise."""
    model = deepcopy(model).cpu().float().eval()
    height, width = spec.size
    if samples_NHWC is None or not len(samples_NHWC):
        shape = (16 if height * width > 96 * 96 else 64, *spec.size, spec.channels)
        samples_NHWC = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    samples = samples_NHWC[:64]
    # sizes that are equal to each other, or to the model's, would be taken for the only ones
    example = torch.zeros(2, max(spec.size) + 3, max(spec.size) + 5, spec.channels, dtype=torch.uint8)
    free = dict(enumerate(map(torch.export.Dim, ("N", "h", "w"))))

    def prove(run: Runner) -> ExportProof:
        return compare_outputs(model, spec, run, samples)

    return ExportSpec(
        module=ExportableModel(model, spec).eval(),
        example_inputs=(example,),
        dynamic_shapes=(free,),
        input_names=["image"],
        output_names=["probability"],
        metadata=metadata(spec),
        prove=prove,
    )


def metadata(spec: InputSpec) -> dict[str, str]:
    """Return what a program that uses the file has to know, each value as JSON."""
    form = "Images as they are, upright, of any size."
    if spec.handwriting:
        form = "Images in the form of MNIST's: one character, white on black, its center of mass in the middle."
    values: dict[str, Any] = {
        "classes": spec.classes,
        "channels": spec.channels,
        "size": spec.size,
        "mean": spec.mean,
        "std": spec.std,
        "handwriting": spec.handwriting,
        "resize": spec.resize,
        "input": form,
        "thalweg": __version__,
    }
    return {key: json.dumps(value) for key, value in values.items()}


def compare_outputs(model: nn.Module, spec: InputSpec, run: Runner, samples_NHWC: np.ndarray) -> ExportProof:
    """Compare the exported file with the model.

    One side is what `thalweg predict --raw` gives for image files made of the samples; the other runs the exported file
    on the pixels of the same files, all of a size at once and one by one.
    """

    def differences(files: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        inputs = np.stack([preprocess_image(content, spec, raw=True) for content in files])
        with torch.inference_mode():
            ours_NK = predict_proba(model, to_normalized_float(torch.from_numpy(inputs), spec), spec.tta).numpy()
        pixels_NhwC = np.stack([decode_image(content, spec.channels) for content in files])
        one_by_one = np.concatenate([run(image[None]) for image in pixels_NhwC])
        theirs_2NK = np.stack([run(pixels_NhwC), one_by_one])
        return np.abs(ours_NK - theirs_2NK).max((1, 2)), (ours_NK.argmax(1) == theirs_2NK.argmax(2)).ravel()

    errors = []
    is_equal = []
    kinds: dict[str, None] = {}
    count = 0
    for kind, files in make_test_files(samples_NHWC, spec):
        if files:
            error, equal = differences(files)
            errors.append(error)
            is_equal.append(equal)
            kinds[kind] = None
            count += len(files)
    largest = float(np.concatenate(errors).max())
    agreement = float(np.concatenate(is_equal).mean())
    text = f"largest difference {largest:.2g}, same label in {agreement:.2%} of the predictions"
    text += f", on {count} images ({', '.join(kinds)})"
    problem = ""
    if not (largest <= TOLERANCE and agreement == 1):
        problem = f"all labels and a difference of {TOLERANCE:g} at most are expected"
    numbers = {"max_difference": largest, "agreement": agreement, "samples": count}
    large = make_large_jpeg(samples_NHWC[0], spec)
    if large is not None:
        scaled = float(differences([large])[0].max())
        numbers["large_jpeg_difference"] = scaled
        text += f"; {scaled:.2g} on a large JPEG, decoded at a fraction of its size"
        if not scaled <= SCALED_JPEG_TOLERANCE:
            problem = f"{SCALED_JPEG_TOLERANCE:g} at most is expected on a large JPEG"
    return ExportProof(text, problem, numbers)


def make_test_files(samples_NHWC: np.ndarray, spec: InputSpec) -> Iterator[tuple[str, list[bytes]]]:
    """Yield image files by kind, those in a list of one size: all samples as they are, a few of each other form."""
    high, wide = spec.size
    yield "PNG", [encode_image(sample, (high, wide)) for sample in samples_NHWC]
    for index, aspect in enumerate(TEST_ASPECTS):
        height, width = (max(1, round(side * factor)) | 1 for side, factor in zip(spec.size, aspect, strict=True))
        yield "PNG", [encode_image(sample, (height, width)) for sample in samples_NHWC[index :: len(TEST_ASPECTS)]]
    odd = (2 * high + 1, 3 * wide | 1)
    rotated = Image.Exif()
    rotated[Base.Orientation] = 6
    few = samples_NHWC[:4]
    yield "JPEG", [encode_image(sample, odd, "JPEG", quality=90) for sample in few]
    yield "rotated JPEG", [encode_image(sample, odd, "JPEG", quality=90, exif=rotated) for sample in few]
    if spec.channels == 1:
        colors = [np.concatenate([sample, 255 - sample, sample[::-1]], axis=2) for sample in few]
        yield "color PNG", [encode_image(sample, odd) for sample in colors]


def make_large_jpeg(sample_HWC: np.ndarray, spec: InputSpec) -> bytes | None:
    """Return the smallest JPEG that `thalweg predict` decodes at a fraction; None where it is too large to compare."""
    shorter = 2 * (DRAFT_MARGIN_CROPPED * spec.resize if spec.resize else DRAFT_MARGIN * min(spec.size))
    height, width = (2 * math.ceil(shorter * side / min(spec.size) / 2) for side in spec.size)
    return encode_image(sample_HWC, (height, width), "JPEG", quality=90) if height * width <= MAX_PIXELS else None


def encode_image(sample_HWC: np.ndarray, size: tuple[int, int], form: str = "PNG", **options: Any) -> bytes:
    """Resize an image to (h, w) and return the bytes of a file."""
    image = Image.fromarray(sample_HWC[..., 0] if sample_HWC.shape[2] == 1 else sample_HWC)
    file = io.BytesIO()
    image.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(file, form, **options)
    return file.getvalue()
