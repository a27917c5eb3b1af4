"""Parameters, multiply-adds and memory: dense and convolutional networks over the image size, any model by layers.

Weight sharing across positions: Fukushima 1980, doi:10.1007/BF00344251; LeCun et al. 1989,
doi:10.1162/neco.1989.1.4.541. Receptive fields: Araujo, Norris and Sim 2019, doi:10.23915/distill.00021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

import torch
from torch import nn

from ...attribution.layer_summary import (
    LayerInfo,
    LayerSummary,
    group_by_module,
    main_layers,
    sum_rows,
    summarize_layers,
)
from ...config.parsing import Range
from ...errors import OptionError, pluralize
from ...models.classify.convnet import convnet
from ...models.classify.mlp import mlp
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

TEXT = load_text(__package__)

#: (image size, channels, classes) -> model
ModelBuilder = Callable[[int, int, int], nn.Module]

BYTES_PER_FLOAT32 = 4
#: training with Adam stores each parameter, its gradient, and two moments
COPIES_PER_PARAMETER = 4
#: rows of the overview and of a page of the full table; most pages; most receptive fields drawn
OVERVIEW_ROWS = 26
ROWS_PER_PAGE = 34
MAX_PAGES = 12
MAX_FIELDS = 8
#: image sizes that a curve is drawn over
MIN_SIZES = 2
MAX_SIZES = 8


@dataclass(frozen=True)
class ParameterSettings:
    """Settings; 'auto' takes the model's own input shape and classes."""

    image_size: Annotated[int | Literal["auto"], "height and width of the image, in pixels", Range(1, 4096)] = "auto"
    channels: Annotated[int | Literal["auto"], "image channels: 1 for gray, 3 for color", Range(1, 64)] = "auto"
    classes: Annotated[int | Literal["auto"], "number of classes", Range(1, 100_000)] = "auto"
    image_sizes: Annotated[list[int], "image sizes of the scaling curves", Range(8, 4096)] = field(
        default_factory=lambda: [28, 56, 112, 224, 448]
    )
    mlp_widths: Annotated[list[int], "hidden units of each layer of the dense network", Range(1, 100_000)] = field(
        default_factory=lambda: [128, 64]
    )
    convnet_widths: Annotated[list[int], "channels of each stage of the convolutional network", Range(1, 4096)] = field(
        default_factory=lambda: [32, 64, 128]
    )
    batch_size: Annotated[int, "images per training batch", Range(1, 65536)] = 32


@dataclass(frozen=True)
class ScalingCurve:
    """Cost of a model at each image size; None for sizes that it does not accept."""

    name: str
    parameters: list[int | None]
    multiply_adds: list[int | None]
    training_bytes: list[int | None]


@dataclass(frozen=True)
class LayerField:
    """A layer and its receptive field, in pixels."""

    name: str
    receptive_field: int


@dataclass(frozen=True)
class ParameterNumbers:
    """Scaling curves of three models, and the layers of one of them.

    `pages[0]` is the overview; the other pages, if any, list the layers one by one.
    """

    model: str
    image_size: int
    channels: int
    classes: int
    batch_size: int
    image_sizes: list[int]
    mlp_widths: list[int]
    convnet_widths: list[int]
    scaling: list[ScalingCurve]
    layers: list[LayerInfo]
    total: LayerInfo
    training_bytes: int
    pages: list[list[LayerInfo]]
    receptive_fields: list[LayerField]


@register_concept(TEXT, ParameterSettings, input_kind="network")
def parameters(settings: ParameterSettings, build: ModelBuilder, form: Sequence[int], title: str) -> ConceptResult:
    """Count parameters, multiply-adds and memory of three models over the image size, and of one model by layers.

    Args:
        settings: Settings of the concept.
        build: Builds the model from (image size, channels, classes).
        form: The model's own image size, channels and classes, used for 'auto'.
        title: Name of the model.

    Returns:
        The counts, one frame per scaling curve, one frame per page of the layer table.

    Raises:
        OptionError: The model does not accept the image size, or there are too few or too many image sizes.
    """
    image_size = _resolve_auto(settings.image_size, form[0])
    channels = _resolve_auto(settings.channels, form[1])
    classes = _resolve_auto(settings.classes, form[2])
    model = build(image_size, channels, classes)
    table = summarize_layers(model, (channels, image_size, image_size))
    total = sum_rows(table.rows, "all")
    image_sizes = _sort_sizes(settings.image_sizes)
    scaling = []
    # the model itself counts at every size that it accepts; at other sizes a new one is built
    for name, builders in (
        ("dense network", [_build_dense(settings)]),
        ("convolutional network", [_build_convolutional(settings)]),
        (title, [lambda *_: model, build]),
    ):
        totals = [_count_first(builders, size, channels, classes) for size in image_sizes]
        scaling.append(_build_curve(name, totals, settings.batch_size))
    pages = _split_pages(table)
    numbers = ParameterNumbers(
        model=title,
        image_size=image_size,
        channels=channels,
        classes=classes,
        batch_size=settings.batch_size,
        image_sizes=image_sizes,
        mlp_widths=list(settings.mlp_widths),
        convnet_widths=list(settings.convnet_widths),
        scaling=scaling,
        layers=table.rows,
        total=total,
        training_bytes=estimate_training_bytes(total, settings.batch_size),
        pages=pages,
        receptive_fields=_select_fields(pages[0]),
    )
    return ConceptResult(
        asdict(numbers),
        _build_frames(numbers),
        _format_key_numbers(numbers),
        key_frame=3,
        notes=_collect_notes(numbers, table),
    )


def _resolve_auto(value: int | Literal["auto"], default: int) -> int:
    if value == "auto":
        return default
    return value


def _sort_sizes(sizes: Iterable[int]) -> list[int]:
    """Return the image sizes in ascending order without duplicates. Raises OptionError for too few or too many."""
    unique = sorted(set(sizes))
    if not MIN_SIZES <= len(unique) <= MAX_SIZES:
        raise OptionError(
            f"image_sizes: got {pluralize(len(unique), 'different value')}; expected {MIN_SIZES} to {MAX_SIZES}.",
            cure=f"Give {MIN_SIZES} to {MAX_SIZES} different sizes.",
            option="image_sizes",
            value=unique,
        )
    return unique


def estimate_training_bytes(total: LayerInfo, batch_size: int) -> int:
    """Estimate the memory to train with Adam in float32: four values per parameter, and the activations of a batch."""
    return BYTES_PER_FLOAT32 * (COPIES_PER_PARAMETER * total.parameters + batch_size * total.activations)


def _build_dense(settings: ParameterSettings) -> ModelBuilder:
    def build(image_size: int, channels: int, classes: int) -> nn.Module:
        with torch.device("meta"):
            return mlp(channels, classes, image_size, widths=tuple(settings.mlp_widths))

    return build


def _build_convolutional(settings: ParameterSettings) -> ModelBuilder:
    def build(image_size: int, channels: int, classes: int) -> nn.Module:
        with torch.device("meta"):
            return convnet(channels, classes, image_size, widths=tuple(settings.convnet_widths))

    return build


# --- counting --------------------------------------------------------------------------------------------------------


def _count_first(builders: Sequence[ModelBuilder], image_size: int, channels: int, classes: int) -> LayerInfo | None:
    """Count all layers of the first model that accepts images of this size; None if no model does."""
    for build in builders:
        try:
            table = summarize_layers(build(image_size, channels, classes), (channels, image_size, image_size))
        except OptionError:
            continue
        return sum_rows(table.rows, "all")
    return None


def _build_curve(name: str, totals: Sequence[LayerInfo | None], batch_size: int) -> ScalingCurve:
    """Arrange the totals at each image size as curves."""
    curve = ScalingCurve(name, [], [], [])
    for total in totals:
        if total is None:
            curve.parameters.append(None)
            curve.multiply_adds.append(None)
            curve.training_bytes.append(None)
        else:
            curve.parameters.append(total.parameters)
            curve.multiply_adds.append(total.multiply_adds)
            curve.training_bytes.append(estimate_training_bytes(total, batch_size))
    return curve


def _split_pages(table: LayerSummary) -> list[list[LayerInfo]]:
    """Return the rows of each page: the overview, then all layers if the overview groups some of them."""
    overview = group_by_module(table, OVERVIEW_ROWS)[:ROWS_PER_PAGE]
    rows = main_layers(table.rows)
    pages = [overview]
    if overview != rows:
        starts = range(0, len(rows), ROWS_PER_PAGE)
        for start in starts[:MAX_PAGES]:
            pages.append(rows[start : start + ROWS_PER_PAGE])
    return pages


def _select_fields(rows: Sequence[LayerInfo]) -> list[LayerField]:
    """Select layers whose receptive field is larger than before: at most MAX_FIELDS, with the first and the last."""
    growing: list[LayerField] = []
    largest = -1
    for row in rows:
        if row.receptive_field is not None and row.receptive_field > largest:
            growing.append(LayerField(row.name, row.receptive_field))
            largest = row.receptive_field
    if len(growing) <= MAX_FIELDS:
        return growing
    indices = set()
    for i in range(MAX_FIELDS):
        indices.add(round(i * (len(growing) - 1) / (MAX_FIELDS - 1)))
    return [growing[i] for i in sorted(indices)]


# --- frames ----------------------------------------------------------------------------------------------------------


def _build_frames(numbers: ParameterNumbers) -> list[Frame]:
    from .plot import plot_layer_table, plot_scaling_curves

    frames = []
    for count, curve in enumerate(numbers.scaling, 1):
        frames.append(Frame(_describe_curve(numbers, curve), plot_scaling_curves, (numbers, count)))
    for page in range(len(numbers.pages)):
        frames.append(Frame(_describe_page(numbers, page), plot_layer_table, (numbers, page)))
    return frames


def _describe_curve(numbers: ParameterNumbers, curve: ScalingCurve) -> str:
    """Describe the growth from the smallest to the largest image size that the model accepts."""
    name = curve.name[0].upper() + curve.name[1:]
    if curve.name == numbers.model:
        name = curve.name
    accepted = []
    for i, count in enumerate(curve.parameters):
        if count is not None:
            accepted.append(i)
    if not accepted:
        return f"{name} accepts none of these image sizes."
    first = accepted[0]
    last = accepted[-1]
    return (
        f"{name}: from {numbers.image_sizes[first]} to {numbers.image_sizes[last]} pixels, the number of parameters "
        f"{_describe_growth(curve.parameters[first], curve.parameters[last])}, the number of multiply-adds "
        f"{_describe_growth(curve.multiply_adds[first], curve.multiply_adds[last])}."
    )


def _describe_growth(first: int | None, last: int | None) -> str:
    first = first or 0
    last = last or 0
    if first == last:
        return "stays the same"
    return f"is multiplied by {last / max(first, 1):.3g}"


def _describe_page(numbers: ParameterNumbers, page: int) -> str:
    """Name the layers with the most parameters and the most multiply-adds, or the page."""
    if page:
        return f"{numbers.model}, layer by layer, page {page} of {len(numbers.pages) - 1}."
    rows = numbers.pages[page]
    total = numbers.total
    largest = max(rows, key=lambda row: row.parameters)
    slowest = max(rows, key=lambda row: row.multiply_adds)
    parameters_fraction = largest.parameters / max(total.parameters, 1)
    multiply_adds_fraction = slowest.multiply_adds / max(total.multiply_adds, 1)
    return (
        f"{largest.name} ({largest.kind}) has {parameters_fraction:.0%} of the {total.parameters:,} parameters, "
        f"{slowest.name} ({slowest.kind}) has {multiply_adds_fraction:.0%} of the multiply-adds."
    )


def _format_key_numbers(numbers: ParameterNumbers) -> dict[str, str]:
    size = numbers.image_size
    total = numbers.total
    classes = pluralize(numbers.classes, "class", "classes")
    megabytes = BYTES_PER_FLOAT32 * total.parameters / 1e6
    texts = {
        "model": f"{numbers.model}, images of {size} x {size} x {numbers.channels}, {classes}",
        "parameters": f"{total.parameters:,}, {megabytes:,.4g} MB in float32",
        "multiply-adds": f"{total.multiply_adds:,} per image",
        "memory": f"{numbers.training_bytes / 1e6:,.4g} MB to train with Adam, batch size {numbers.batch_size}",
    }
    if total.receptive_field is not None:
        texts["receptive field"] = f"{pluralize(total.receptive_field, 'pixel')} at the last layer"
    return texts


def _collect_notes(numbers: ParameterNumbers, table: LayerSummary) -> list[str]:
    notes = [
        "Training memory is an estimate in float32: four values per parameter, and each activation of a layer once per "
        "image. Memory of libraries is not included."
    ]
    rejected = []
    for size, count in zip(numbers.image_sizes, numbers.scaling[-1].parameters, strict=True):
        if count is None:
            rejected.append(str(size))
    if rejected:
        notes.append(f"{numbers.model} does not accept images of {', '.join(rejected)} pixels.")
    if any(row.shape is None for row in table.rows):
        notes.append("Layers without an output shape run only in training, or never. Their parameters still count.")
    num_rows = len(main_layers(table.rows))
    max_rows = ROWS_PER_PAGE * MAX_PAGES
    if num_rows > max_rows:
        notes.append(f"The pages show {max_rows} of {num_rows} layers; the JSON has all of them.")
    return notes
