"""`thalweg explain`: concepts of deep learning, and what a classifier looked at in a picture."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ..errors import OptionError
from . import option_flags
from .console import escape_controls, print_notice, print_result, to_json
from .predictions import expand_stdin

SaveOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|DIR",
        help="of a concept: FILE.png, svg, gif, mp4, html or json  [default: explained/NAME.png]; "
        "of a source: a folder  [default: explained]",
    ),
]
MethodsOption = Annotated[
    str | None, typer.Option(metavar="NAME,…", help="explanation methods of a model's source  [default: all]")
]
WeightsOption = Annotated[
    str | None, typer.Option(metavar="imagenet|FILE|RUN", help="weights for a model's name  [default: imagenet]")
]


def explain(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="a concept, or a run or model whose predictions are explained")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT", help="what it is about: an image, a table, a run")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a setting of the concept; --describe lists them"),
    ] = None,
    describe: Annotated[bool, typer.Option("--describe", help="only the text of a concept and its settings")] = False,
    step: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="which step a .png or .svg shows  [default: the key step]")
    ] = None,
    target_class: Annotated[
        str | None,
        typer.Option("--target-class", metavar="NAME", help="class to explain  [default: the most probable]"),
    ] = None,
    methods: MethodsOption = None,
    weights: WeightsOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="never use the network")] = False,
    save: SaveOption = None,
    json: Annotated[bool, typer.Option("--json", help="print every number as JSON")] = False,
) -> None:
    """Explain a concept with numbers that are computed, or show what a model looked at.

    \b
    thalweg explain                                        the concepts, by chapter
    thalweg explain neuron --set weights=2,-1 --save neuron.html
    thalweg explain convolution photo.jpg --set kernel=sobel
    thalweg explain landscape runs/a                       the loss surface along the path of a training
    thalweg explain squeezenet1_1 dog.jpg                  heat maps, feature maps, learned filters
    thalweg explain runs/a horse.jpg --target-class horse --methods grad-cam
    """
    from .. import api

    if name is None:
        return _print_concepts(api, json)
    if api.is_concept(name):
        if target_class or methods:
            raise OptionError(
                f"--target-class and --methods belong to models; {name} is a concept.",
                f"A run or model of that name is ./{name}.",
                option="target_class" if target_class else "methods",
            )
        if describe:
            return print_result("\n".join(escape_controls(line) for line in api.concept_text(name)))
        pairs = [*(settings or ()), *([f"weights={weights}"] if weights is not None else [])]
        values = option_flags.parse_key_values(pairs)
        result = api.explain(name, *(inputs or ()), offline=offline, **values)
        return _print_concept(result, save or f"explained/{name}.png", step, json)
    if len(inputs or ()) != 1 or settings or describe or step:
        api.raise_unknown_name(name)
        raise _explain_usage_error(name, len(inputs or ()))
    options: dict[str, Any] = {}
    if target_class is not None:
        options["target_class"] = target_class
    if methods is not None:
        options["methods"] = _split_names(methods)
    (source,) = expand_stdin(inputs or (), sys.stdin)
    result = api.load(name, weights, offline).explain(source, **options)
    _print_attribution(api, result, save or "explained", json)


def _explain_usage_error(name: str, num_sources: int) -> OptionError:
    """Build the error for a model that is not given exactly one source, or is given settings."""
    problem = "takes no --set, --describe or --step, as concepts do" if num_sources == 1 else f"got {num_sources}"
    return OptionError(f"{name} explains exactly one source; {problem}.", f"thalweg explain {name} image.png")


def _split_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    return names or [""]  # an unknown name, for which the known ones are listed


def _print_concepts(api: Any, json: bool) -> None:
    from ..inference.explain_concept import format_concepts

    rows = api.list_concepts()
    if json:
        return print_result(to_json(rows, indent=2))
    for line in format_concepts(rows):
        print_result(line)
    print_notice(
        "thalweg explain NAME draws one; --describe lists its settings; --save NAME.html makes a page of all its steps."
    )


def _print_concept(result: Any, save: str, step: int | None, json: bool) -> None:
    path = result.save(save, step)
    for note in result.result.notes:
        print_notice(f"note: {note}")
    if json:
        return print_result(to_json({**result.json(), "image": str(path)}))
    for line in result.lines():
        print_result(escape_controls(line))
    print_result(str(path))


def _print_attribution(api: Any, result: Any, save: str, json: bool) -> None:
    from ..runs.artifacts import save_images

    paths = save_images(result.images(), save)
    for method, note in result.notes.items():
        print_notice(f"{method}: {note}")
    if json:
        return print_result(to_json({**result.json(), "images": [str(path) for path in paths]}))
    for label, probability in result.predictions:
        print_result(f"  {probability:.3f}  {escape_controls(label)}")
    for path in paths:
        print_result(str(path))
