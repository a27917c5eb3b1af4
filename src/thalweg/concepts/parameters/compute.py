"""How many weights it takes: dense and convolutional networks over the size of the picture, and any network by layers.

Sharing weights over all places of a picture: Fukushima 1980, doi:10.1007/BF00344251; LeCun et al. 1989,
doi:10.1162/neco.1989.1.4.541. Receptive fields: Araujo, Norris and Sim 2019, doi:10.23915/distill.00021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

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
from ...config.options import Range
from ...errors import OptionError, pluralize
from ...models.classify.convnet import convnet
from ...models.classify.mlp import mlp
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

TEXT = load_text(__package__)

ModelBuilder = Callable[[int, int, int], nn.Module]
#: bytes of a number; copies of each weight that training with Adam holds: itself, its gradient, two moments
BYTES_PER_VALUE, TRAINING_COPIES = 4, 4
#: rows of the table at a glance, of a page of all layers, most pages; layers whose fields are drawn
SUMMARY_ROWS, ROWS_PER_PAGE, MAX_PAGES, MAX_FIELDS = 26, 34, 12, 8


@dataclass(frozen=True)
class ParameterSettings:
    """What can be set; 'auto' is what the network was made for."""

    side: Annotated[int | Literal["auto"], "height and width of the picture, in pixels", Range(1, 4096)] = "auto"
    channels: Annotated[int | Literal["auto"], "colours of the picture, 1 or 3", Range(1, 64)] = "auto"
    classes: Annotated[int | Literal["auto"], "how many classes are told apart", Range(1, 100_000)] = "auto"
    sides: Annotated[list[int], "sides for which the growth is shown", Range(8, 4096)] = (28, 56, 112, 224, 448)
    dense: Annotated[list[int], "hidden neurons of each layer of the dense network", Range(1, 100_000)] = (128, 64)
    maps: Annotated[list[int], "maps of each stage of the convolutional network", Range(1, 4096)] = (32, 64, 128)
    batch: Annotated[int, "pictures at a time in training", Range(1, 65536)] = 32


@register_concept(TEXT, ParameterSettings, subject="network")
def parameters(settings: ParameterSettings, build: ModelBuilder, form: Sequence[int], told: str) -> ConceptResult:
    """Weights, multiply-adds and memory of three networks over the side of the picture, and one of them by layers.

    `build(side, channels, classes)` makes the network that is asked about, `form` is what it was made for. Raises
    OptionError for pictures that it cannot read, and sides that are too many or not in order.
    """
    given = (settings.side, settings.channels, settings.classes)
    side, channels, classes = (own if one == "auto" else one for one, own in zip(given, form, strict=True))
    network = build(side, channels, classes)
    table = summarize_layers(network, (channels, side, side))
    whole = sum_rows(table.rows, "all")
    sides, rest = _parse_sides(settings.sides), (channels, classes, settings.batch)
    growth = {
        "dense": _measure_scaling(_build_dense(settings), sides, *rest),
        "convolutional": _measure_scaling(_build_convolutional(settings), sides, *rest),
        told: _measure_scaling(build, sides, *rest, network),
    }
    numbers = {
        "network": told,
        "side": side,
        "channels": channels,
        "classes": classes,
        "batch": settings.batch,
        "sides": sides,
        "dense": list(settings.dense),
        "maps": list(settings.maps),
        "growth": growth,
        "layers": [row._asdict() for row in table.rows],
        "total": whole._asdict(),
        "memory": estimate_training_bytes(whole, settings.batch),
        "pages": _split_pages(table),
    }
    numbers["fields"] = _field_growth(numbers["pages"][0])
    return ConceptResult(
        numbers, _build_frames(numbers), _key_numbers(numbers), key_frame=3, notes=_collect_notes(numbers, table)
    )


def estimate_training_bytes(whole: LayerInfo, batch: int) -> int:
    """Memory for training with Adam in single precision: weights, gradients and two moments; answers of a batch."""
    return BYTES_PER_VALUE * (TRAINING_COPIES * whole.parameters + batch * whole.answers)


def _parse_sides(settings: Sequence[int]) -> list[int]:
    """The sides in their order, each once. Raises OptionError for fewer than two, or more than eight."""
    sides = sorted(set(settings))
    if not 2 <= len(sides) <= 8:
        raise OptionError(f"sides: {len(sides)} are none that a curve can be drawn of.", cure="Give 2 to 8 of them.")
    return sides


def _build_dense(settings: ParameterSettings) -> ModelBuilder:
    def build(side: int, channels: int, classes: int) -> nn.Module:
        with torch.device("meta"):
            return mlp(channels, classes, side, widths=tuple(settings.dense))

    return build


def _build_convolutional(settings: ParameterSettings) -> ModelBuilder:
    def build(side: int, channels: int, classes: int) -> nn.Module:
        with torch.device("meta"):
            return convnet(channels, classes, side, widths=tuple(settings.maps))

    return build


def _measure_scaling(
    build: ModelBuilder, sides: Sequence[int], channels: int, classes: int, batch: int, network: nn.Module | None = None
) -> dict[str, list[int | None]]:
    """Weights, multiply-adds and bytes in training for pictures of each side; None where it reads no such pictures.

    It is built for each side; but `network`, where given, is settings itself wherever it reads pictures of that side.
    """
    found: dict[str, list[int | None]] = {"parameters": [], "multiply_adds": [], "memory": []}
    for side in sides:
        whole = _count_totals(lambda *_: network, side, channels, classes) if network is not None else None
        whole = whole or _count_totals(build, side, channels, classes)
        found["parameters"].append(whole and whole.parameters)
        found["multiply_adds"].append(whole and whole.multiply_adds)
        found["memory"].append(whole and estimate_training_bytes(whole, batch))
    return found


def _count_totals(build: Callable[..., nn.Module], side: int, channels: int, classes: int) -> LayerInfo | None:
    """All layers in total, for pictures of that side; None where they cannot be read."""
    try:
        return sum_rows(summarize_layers(build(side, channels, classes), (channels, side, side)).rows, "all")
    except OptionError:
        return None


def _split_pages(table: LayerSummary) -> list[list[dict[str, Any]]]:
    """Rows of each page: first the network at a glance, then layer by layer, where that is more."""
    glance, rows = group_by_module(table, SUMMARY_ROWS)[:ROWS_PER_PAGE], main_layers(table.rows)
    every = [rows[start : start + ROWS_PER_PAGE] for start in range(0, len(rows), ROWS_PER_PAGE)]
    pages = [glance] if glance == rows else [glance, *every[:MAX_PAGES]]
    return [[row._asdict() for row in page] for page in pages]


def _field_growth(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name and field of the rows from which on more is seen than before, of many some, with the first and the last."""
    found: list[dict[str, Any]] = []
    for row in rows:
        if row["field"] is not None and not (found and row["field"] <= found[-1]["field"]):
            found.append({"name": row["name"], "field": row["field"]})
    if len(found) > MAX_FIELDS:
        places = sorted({round(place * (len(found) - 1) / (MAX_FIELDS - 1)) for place in range(MAX_FIELDS)})
        found = [found[place] for place in places]
    return found


# --- what is told ----------------------------------------------------------------------------------------------------


def _build_frames(numbers: dict[str, Any]) -> list[Frame]:
    from .plot import plot_layer_table, plot_scaling_curves

    frames = [
        Frame(caption, plot_scaling_curves, (numbers, count))
        for count, caption in enumerate(_growth_caption(numbers), 1)
    ]
    return frames + [
        Frame(_page_caption(numbers, page), plot_layer_table, (numbers, page)) for page in range(len(numbers["pages"]))
    ]


def _growth_caption(numbers: dict[str, Any]) -> list[str]:
    """What is said of the growth of each of the networks."""
    sides = numbers["sides"]
    captions = []
    for name, lines in numbers["growth"].items():
        known = [place for place, value in enumerate(lines["parameters"]) if value is not None]
        if not known:
            captions.append(f"{name} reads pictures of none of these sides.")
            continue
        first, last = known[0], known[-1]
        subject = f"{name}:" if name == numbers["network"] else f"The {name} network:"
        weights, work = (_growth_ratio(lines[key], first, last) for key in ("parameters", "multiply_adds"))
        captions.append(
            f"{subject} from {sides[first]} to {sides[last]} pixels the weights {weights}, the multiply-adds {work}."
        )
    return captions


def _growth_ratio(values: Sequence[int], first: int, last: int) -> str:
    if values[first] == values[last]:
        return "stay the same"
    return f"become {values[last] / max(values[first], 1):.3g} times as many"


def _page_caption(numbers: dict[str, Any], page: int) -> str:
    """What is said of a page of the table."""
    rows, whole = numbers["pages"][page], numbers["total"]
    if page:
        return f"{numbers['network']}, layer by layer, page {page} of {len(numbers['pages']) - 1}."
    most = max(rows, key=lambda row: row["parameters"])
    works = max(rows, key=lambda row: row["multiply_adds"])
    weights = most["parameters"] / max(whole["parameters"], 1)
    work = works["multiply_adds"] / max(whole["multiply_adds"], 1)
    return (
        f"Of the {whole['parameters']:,} weights {weights:.0%} are in {most['name']} ({most['kind']}), "
        f"of the multiply-adds {work:.0%} in {works['name']} ({works['kind']})."
    )


def _key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    whole, side, channels = numbers["total"], numbers["side"], numbers["channels"]
    field, told = whole["field"], pluralize(numbers["classes"], "class", "classes")
    return {
        "network": f"{numbers['network']}, pictures of {side} x {side} x {channels}, {told}",
        "weights": f"{whole['parameters']:,}, {BYTES_PER_VALUE * whole['parameters'] / 1e6:,.4g} MB in single precision",
        "multiply-adds": f"{whole['multiply_adds']:,} for one picture",
        "memory": f"{numbers['memory'] / 1e6:,.4g} MB to train with Adam by {numbers['batch']} pictures",
        **({"field": f"{pluralize(field, 'pixel')} at the end"} if field is not None else {}),
    }


def _collect_notes(numbers: dict[str, Any], table: LayerSummary) -> list[str]:
    notes = [
        "Memory in training is counted in single precision: four numbers for each weight, and every answer of a layer "
        "once for each picture; what libraries need besides is left out."
    ]
    missing = [
        side for side, value in zip(numbers["sides"], numbers["growth"][numbers["network"]]["parameters"], strict=True)
        if value is None
    ]  # fmt: skip
    if missing:
        notes.append(f"{numbers['network']} reads no pictures of {', '.join(map(str, missing))} pixels.")
    if any(row.shape is None for row in table.rows):
        notes.append(
            "Layers without an answer are settings in training only, or never; their weights count all the same."
        )
    rows = len(main_layers(table.rows))
    if rows > ROWS_PER_PAGE * MAX_PAGES:
        notes.append(f"The pages show {ROWS_PER_PAGE * MAX_PAGES} of {rows} layers; the JSON has all.")
    return notes
