"""Tables of a model by name: its layers, and its layer groups."""

from __future__ import annotations

from typing import Any

from ..attribution.layer_summary import sum_rows, summarize_layers
from ..engine.freezing import layer_groups
from ..registry import find_model
from .inputs.network import default_shape, meta_builder


def layer_group_rows(name: str) -> list[dict[str, Any]]:
    """Return a row per layer group, from the input on. Raises NotFoundError."""
    entry = find_model(name)
    groups = layer_groups(meta_builder(entry)(*default_shape(entry)))
    rows = []
    for index, group in enumerate(groups):
        rows.append(
            {
                "group": group.name,
                "layers": " ".join(type(layer).__name__ for layer in group.layers),
                "parameters": sum(param.numel() for param in group.params),
                "unfreeze_groups": len(groups) - 1 - index,
            }
        )
    return rows


def layer_summary_of(name: str) -> dict[str, Any]:
    """Return a model layer by layer for the default shape of its input. Raises NotFoundError."""
    entry = find_model(name)
    shape = default_shape(entry)
    input_shape = (shape.in_channels, shape.image_size, shape.image_size)
    rows = summarize_layers(meta_builder(entry)(*shape), input_shape).rows
    layers = []
    for row in [*rows, sum_rows(rows, "all")]:
        layers.append(
            {
                "layer": row.name,
                "kind": row.kind,
                "output": row.shape,
                "parameters": row.parameters,
                "multiply_adds": row.multiply_adds,
                "receptive_field": row.receptive_field,
            }
        )
    return {
        "model": name,
        "input": input_shape,
        "outputs": shape.num_outputs,
        "layers": layers[:-1],
        "total": layers[-1],
    }
