"""A network as one ONNX file that takes pictures of any size, and proof that it answers as `thalweg predict` does.

What stands between a decoded picture and the network is part of the file: the resizing of `data.images.fit`, with
Pillow's triangle filter, its whole-number weights and its rounding after each of two passes; then mean and deviation;
softmax at the end. So nobody has to rebuild it, and what is compared is the whole way from the bytes of a picture file.
"""

# N pictures, h w their extent, S side of what the network sees, C channels, K classes

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from ..data.images.image_decoding import DRAFT_MARGIN, DRAFT_MARGIN_CROPPED, decode_image
from ..io.atomic_write import fsync_dir, write_fsync
from ..errors import DataError, ExportError, OptionError, ResourceError
from ..version import __version__

if TYPE_CHECKING:
    from torch import Tensor, nn

#: the largest difference of a probability that is taken for the same answer
TOLERANCE = 1e-4
#: the same for a large JPEG, which `thalweg predict` decodes at a fraction of its extent: that moves levels by one or
#: two, which moved a probability of a small network by up to 0.014 (`data.images.LEFT`)
SCALED_JPEG_TOLERANCE = 0.05
#: most pixels of such a JPEG: each takes more than a hundred bytes to compare
MAX_PIXELS = 6_000_000
#: Pillow's weights are whole multiples of one by this
FIXED_POINT_ONE = 2**22
#: extents (h, w) of the pictures that answers are compared on, in sides of what the network sees
TEST_ASPECTS = ((1.6, 1.3), (0.7, 1.1), (1.1, 3.2), (2.9, 1.0), (0.4, 0.4))


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how near it is: the largest difference of a probability, and the share of equal labels.

    `samples` is the number of different pictures that were compared, `kinds` says of what kinds their files were.
    `fraction` is the difference for a JPEG that is decoded at a fraction of its extent, None where it is too large.
    """

    path: Path
    difference: float
    agreement: float
    samples: int
    kinds: tuple[str, ...] = ()
    fraction: float | None = None

    def told(self) -> str:
        """All of it in a line."""
        line = f"largest difference {self.difference:.2g}, same label in {self.agreement:.2%} of the answers"
        if self.kinds:
            line += f", on {self.samples} pictures ({', '.join(self.kinds)})"
        return line if self.fraction is None else f"{line}; {self.fraction:.2g} on a large JPEG, decoded at a fraction"


def export_onnx(network: nn.Module, facts: dict[str, Any], path: Path, samples_NHWC: np.ndarray) -> ExportReport:
    """Writes `network` with its preprocessing to `path` and compares its answers with those of `thalweg predict`.

    `facts` are those of the task: classes, channels, size, mean and std (on the scale of 0 to 1), ink. `samples_NHWC`
    are uint8 pictures of the network's size. The file takes `image` (N, h, w, C) uint8 and gives `probability` (N, K).
    Raises OptionError for a path that no file can have, DataError without samples, ResourceError for a package that is
    not installed and a file that cannot be written, ExportError where the network cannot be written as ONNX or answers
    otherwise; then no file is left.
    """
    check_output_path(Path(path))
    check_packages()
    if not len(samples_NHWC):
        raise DataError("There is no picture to compare answers on.", cure="Give data with a test set.")
    path, network = Path(path), deepcopy(network).cpu().float().eval()
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_fsync(draft, to_onnx_bytes(network, facts))
        found = replace(compare_outputs(network, facts, draft, samples_NHWC), path=path)
        if not (found.difference <= TOLERANCE and found.agreement == 1):
            raise ExportError(
                f"The exported model answers differently: {found.told()}. Nothing was written.",
                cure=f"All labels and {TOLERANCE:g} are asked for; look for what the network does only in PyTorch.",
            )
        if found.fraction is not None and not found.fraction <= SCALED_JPEG_TOLERANCE:
            raise ExportError(
                f"The exported model answers differently: {found.told()}. Nothing was written.",
                cure=f"There {SCALED_JPEG_TOLERANCE:g} is asked for; the network minds levels that hardly differ.",
            )
        os.replace(draft, path)
        fsync_dir(path.parent)
    except OSError as error:
        raise ResourceError(
            f"Could not write {path}: {error.strerror or error}.", cure="Make room, or give another --out."
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return found


def check_output_path(path: Path) -> None:
    """Raises OptionError for what is there and no file, a device for instance, and for what no file can be called."""
    try:
        taken = path.exists() and not path.is_file()
        above = next((folder for folder in path.absolute().parents if folder.exists()), path)
    except OSError as error:
        raise OptionError(f"--out {path}: {error.strerror}.", cure="Give another name.") from error
    if taken or not above.is_dir():
        raise OptionError(
            f"--out {path} is a folder or a device, or below a file.", cure="Give --out the name of a file."
        )


def check_packages() -> None:
    """Raises ResourceError, naming the first package for ONNX that is not there."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ImportError as error:
            raise ResourceError(
                f"Writing ONNX needs the package {package}: {error}.", cure='pip install "thalweg[onnx]"'
            ) from error


def to_onnx_bytes(network: nn.Module, facts: dict[str, Any]) -> bytes:
    """The bytes of the ONNX file, with nothing in it about this machine. Raises ExportError."""
    import onnx
    import torch

    # extents that are equal to each other, or to the network's, would be taken for the only ones
    size, free = facts["size"][0], dict(enumerate(map(torch.export.Dim, ("N", "h", "w"))))
    example, made = (
        torch.zeros(2, size + 3, size + 5, facts["channels"], dtype=torch.uint8),
        with_preprocessing(network, facts),
    )
    try:
        with suppress_output(), torch.no_grad():
            made(example)  # what is made once and kept, as means of channels are, must not be made by a tracer
            program = torch.onnx.export(
                made,
                (example,),
                dynamo=True,
                dynamic_shapes=(free,),
                input_names=["image"],
                output_names=["probability"],
                verbose=False,
            )
        model = program.model_proto
        strip_metadata(model)
        onnx.helper.set_model_props(model, metadata(facts))
        model.producer_name, model.producer_version = "thalweg", __version__
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()
    except Exception as error:  # an exporter given a network it cannot follow may raise anything
        raise ExportError(
            f"This network cannot be written as ONNX: {first_error_line(error)}.",
            cure="It may only do what torch.onnx.export can follow: no Python that depends on values of tensors.",
        ) from error


def first_error_line(error: BaseException) -> str:
    """What an error says first, or that which it was raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


@contextmanager
def suppress_output() -> Iterator[None]:
    """Keeps the exporter's talk about its own inside from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def metadata(facts: dict[str, Any]) -> dict[str, str]:
    """What a program that uses the file has to know, each value as JSON."""
    form = (
        "Pictures in the form of MNIST's: one character, white on black, its centre of mass in the middle."
        if facts["ink"]
        else "Pictures as they are, upright, of any size."
    )
    known = {key: facts[key] for key in ("classes", "channels", "size", "mean", "std", "ink")}
    known["resize"] = facts.get("resize")
    return {key: json.dumps(value) for key, value in {**known, "input": form, "thalweg": __version__}.items()}


def strip_metadata(message: Any) -> None:
    """Empties every comment of an ONNX message and of all in it: PyTorch writes the paths of source files there."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                strip_metadata(part)


def with_preprocessing(network: nn.Module, facts: dict[str, Any]) -> nn.Module:
    """A module from bytes (N, h, w, C) of any extent to probabilities (N, K)."""
    import torch

    from ..data.images.preprocess import predict_proba, to_normalized_float

    size, resize = facts["size"][0], facts.get("resize")

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network

        def forward(self, image_NhwC: Tensor) -> Tensor:
            seen_NSSC = resize_and_crop(image_NhwC, size, resize)
            return predict_proba(self.model, to_normalized_float(seen_NSSC, facts), facts.get("views", "one"))

    return Whole().eval()


def resize_and_crop(image_NhwC: Tensor, size: int, resize: int | None = None) -> Tensor:
    """The middle of each picture as by `data.images.fit`, first across, then downwards: (N, S, S, C), 0 to 255.

    Double precision holds every sum of bytes times Pillow's weights exactly, so that not one level differs.
    """
    import torch

    h, w = (torch.scalar_tensor(extent, dtype=torch.float64) for extent in image_NhwC.shape[1:3])
    side = torch.minimum(h, w)
    down_Sh = resampling_weights(image_NhwC.shape[1], *crop_range(h, side, size, resize), size)
    across_wS = resampling_weights(image_NhwC.shape[2], *crop_range(w, side, size, resize), size).T
    x_NChw = image_NhwC.permute(0, 3, 1, 2).to(torch.float64)
    return round_levels(down_Sh @ round_levels(x_NChw @ across_wS)).permute(0, 2, 3, 1)


def crop_range(extent: Tensor, side: Tensor, size: int, resize: int | None) -> tuple[Tensor, Tensor]:
    """Where in a picture's height or width `extent` the part begins that is kept, and how long it is, in its pixels.

    `side` is the shorter of the two. With `resize` that is brought to so many pixels, and `size` of them are kept.
    """
    if resize is None:
        return (extent - side) / 2, side
    brought = (resize * extent / side).round()
    scale = extent / brought
    return ((brought - size) / 2).round() * scale, size * scale


def resampling_weights(length: int, start: Tensor, side: Tensor, size: int) -> Tensor:
    """Pillow's weights (S, length) for `side` pixels from `start` on: triangles, wider when shrinking."""
    import torch

    scale = side / size
    centre_S = start + (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    pixel_L = torch.arange(length, dtype=torch.float64) + 0.5
    triangle_SL = (1 - (pixel_L - centre_S[:, None]).abs() / scale.clamp(min=1)).clamp(min=0)
    return (triangle_SL / triangle_SL.sum(1, keepdim=True) * FIXED_POINT_ONE + 0.5).floor()


def round_levels(sums: Tensor) -> Tensor:
    """Sums of bytes times whole weights, as levels 0 to 255."""
    return (sums / FIXED_POINT_ONE + 0.5).floor()


def compare_outputs(network: nn.Module, facts: dict[str, Any], file: Path, samples_NHWC: np.ndarray) -> ExportReport:
    """How near the answers of the file are to those of the network.

    One side is what `thalweg predict --as-is` answers to picture files made of the samples; the other is onnxruntime,
    given the pixels of the same files, all of an extent at once and one by one.
    """
    import torch

    from ..tasks.classify import Classify

    task, answer = Classify(), onnx_runner(file)

    def differences(files: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        seen = np.stack([task.example(content, facts, as_is=True) for content in files])
        ours_NK = task.infer(network, {"image": torch.from_numpy(seen)}, facts).numpy()
        pixels_NhwC = np.stack([decode_image(content, facts["channels"]) for content in files])
        theirs_2NK = np.stack([answer(pixels_NhwC), np.concatenate([answer(one[None]) for one in pixels_NhwC])])
        return np.abs(ours_NK - theirs_2NK).max((1, 2)), (ours_NK.argmax(1) == theirs_2NK.argmax(2)).ravel()

    made = [(kind, files) for kind, files in test_files(samples_NHWC, facts) if files]
    far, equal = zip(*(differences(files) for _, files in made), strict=True)
    count, kinds = sum(len(files) for _, files in made), tuple(dict.fromkeys(kind for kind, _ in made))
    large = make_large_jpeg(samples_NHWC[0], facts)
    fraction = float(differences([large])[0].max()) if large else None
    return ExportReport(file, float(np.max(far)), float(np.concatenate(equal).mean()), count, kinds, fraction)


def test_files(samples_NHWC: np.ndarray, facts: dict[str, Any]) -> Iterator[tuple[str, list[bytes]]]:
    """Picture files by kind, those in a list of one extent: all samples as they are, of each other form a few."""
    size = facts["size"][0]
    yield "PNG", [encode_image(sample, (size, size)) for sample in samples_NHWC]
    for number, extent in enumerate(TEST_ASPECTS):
        sides = tuple(max(1, round(size * side)) | 1 for side in extent)
        yield "PNG", [encode_image(sample, sides) for sample in samples_NHWC[number :: len(TEST_ASPECTS)]]
    odd, turned = (2 * size + 1, 3 * size | 1), Image.Exif()
    turned[Base.Orientation] = 6
    yield "JPEG", [encode_image(sample, odd, "JPEG", quality=90) for sample in samples_NHWC[:4]]
    yield "JPEG on its side", [encode_image(one, odd, "JPEG", quality=90, exif=turned) for one in samples_NHWC[:4]]
    if facts["channels"] == 1:
        colours = [np.concatenate([one, 255 - one, one[::-1]], axis=2) for one in samples_NHWC[:4]]
        yield "PNG in colours", [encode_image(one, odd) for one in colours]


def make_large_jpeg(sample_HWC: np.ndarray, facts: dict[str, Any]) -> bytes | None:
    """The smallest JPEG that `thalweg predict` decodes at a fraction; None where that is too large to compare."""
    resize = facts.get("resize")
    side = 2 * (DRAFT_MARGIN_CROPPED * resize if resize else DRAFT_MARGIN * facts["size"][0])
    return encode_image(sample_HWC, (side, side), "JPEG", quality=90) if side**2 <= MAX_PIXELS else None


def encode_image(sample_HWC: np.ndarray, extent: tuple[int, int], form: str = "PNG", **options: Any) -> bytes:
    """A picture brought to the extent (h, w), as the bytes of a file."""
    picture, file = Image.fromarray(sample_HWC[..., 0] if sample_HWC.shape[2] == 1 else sample_HWC), io.BytesIO()
    picture.resize(extent[::-1], Image.Resampling.BICUBIC).save(file, form, **options)
    return file.getvalue()


def onnx_runner(file: Path) -> Any:
    """A function from pictures (N, h, w, C) uint8 to probabilities (N, K), computed by onnxruntime on the processor."""
    import onnxruntime
    import torch

    choices = onnxruntime.SessionOptions()
    choices.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    choices.intra_op_num_threads, choices.log_severity_level = torch.get_num_threads(), 3
    try:
        made = onnxruntime.InferenceSession(file.read_bytes(), choices, providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:
        raise ExportError(f"The exported model cannot be run: {first_error_line(error)}.") from error

    def answer(pixels_NhwC: np.ndarray) -> np.ndarray:
        try:
            return made.run(["probability"], {"image": pixels_NhwC})[0]
        except Exception as error:
            extent = "x".join(map(str, pixels_NhwC.shape))
            raise ExportError(f"The exported model refuses pictures of {extent}: {first_error_line(error)}.") from error

    return answer
