"""`thalweg explain`: concepts of deep learning, and what a classifier looked at in a picture."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ..errors import OptionError
from . import option_flags as flags
from .console import escape_controls, print_notice, print_result, to_json
from .lazy import facade
from .predictions import expand_stdin

SaveOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|DIR",
        help="of a concept: FILE.png, svg, gif, mp4, html or json  [default: explained/NAME.png]; "
        "of a picture: a folder  [default: explained]",
    ),
]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,…",
        help="of a picture: grad-cam, integrated-gradients, occlusion, feature-maps  [default: all]",
    ),
]
WeightsOption = Annotated[
    str | None, typer.Option(metavar="imagenet|FILE|RUN", help="weights for a model's name  [default: imagenet]")
]


def explain(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="a concept, or a run or model to be asked about a picture")
    ] = None,
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="SUBJECT", help="what it is about: a picture, a table, a run")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a setting of the concept; --about lists them"),
    ] = None,
    about: Annotated[bool, typer.Option("--about", help="only the text of a concept and its settings")] = False,
    frame: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="which step a .png or .svg shows  [default: what says most]")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="of a picture: the class in question  [default: the likeliest]"),
    ] = None,
    methods: MethodsOption = None,
    weights: WeightsOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="never use the network")] = False,
    save: SaveOption = None,
    json: Annotated[bool, typer.Option("--json", help="print every number as JSON")] = False,
) -> None:
    """Explain a concept with numbers that are computed, or show what a classifier looked at in a picture.

    \b
    thalweg explain                                        the concepts, by chapter
    thalweg explain neuron --set weights=2,-1 --save neuron.html
    thalweg explain convolution photo.jpg --set kernel=sobel
    thalweg explain landscape runs/a                       was it an easy way down?
    thalweg explain squeezenet1_1 dog.jpg                  heat maps, feature maps, learned filters
    thalweg explain runs/a horse.jpg --class horse --methods grad-cam
    """
    api = facade()
    if name is None:
        return _print_concepts(api, json)
    if api.is_concept(name):
        if target or methods:
            raise OptionError(
                f"--class and --methods are for pictures, and {name} is a concept.",
                cure=f"A run or model of that name is ./{name}.",
            )
        if about:
            return print_result("\n".join(escape_controls(line) for line in api.concept_text(name)))
        given = flags.parse_key_values([*(settings or ()), *([f"weights={weights}"] if weights is not None else [])])
        shown = api.explain(name, *(subjects or ()), offline=offline, **given)
        return _print_concept(shown, save or f"explained/{name}.png", frame, json)
    if len(subjects or ()) != 1 or settings or about or frame:
        api.raise_unknown_name(name)
        raise _explain_usage_error(name, len(subjects or ()))
    (asked,) = expand_stdin(subjects, sys.stdin)
    found = api.explain(name, asked, target=target, methods=_split_names(methods), weights=weights, offline=offline)
    _print_attribution(api, found, save or "explained", json)


def _explain_usage_error(name: str, pictures: int) -> OptionError:
    """What is wrong with a question to a run or a model that is not about one picture, or has settings."""
    told = "and has no --set, --about or --frame, as concepts have" if pictures == 1 else f"here are {pictures}"
    return OptionError(f"{name} is asked about one picture, {told}.", cure=f"thalweg explain {name} picture.png")


def _split_names(given: str | None) -> list[str] | None:
    """What stands between commas; None stays None."""
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def _print_concepts(api: Any, json: bool) -> None:
    rows = api.list_concepts()
    if json:
        return print_result(to_json(rows, indent=2))
    for line in api.format_concepts(rows):
        print_result(line)
    print_notice(
        "thalweg explain NAME draws one; --about says what can be set; --save NAME.html makes a page of all its steps."
    )


def _print_concept(shown: Any, save: str, frame: int | None, json: bool) -> None:
    written = shown.save(save, frame)
    for note in shown.result.notes:
        print_notice(f"note: {escape_controls(note)}")
    if json:
        return print_result(to_json({**shown.json(), "picture": str(written)}))
    for line in shown.lines():
        print_result(escape_controls(line))
    print_result(str(written))


def _print_attribution(api: Any, found: Any, save: str, json: bool) -> None:
    written = api.write_images(found.pictures(), save)
    for method, note in found.notes.items():
        print_notice(f"{method}: {escape_controls(note)}")
    if json:
        return print_result(to_json({**found.json(), "pictures": [str(path) for path in written]}))
    for label, probability in found.answers:
        print_result(f"  {probability:.3f}  {escape_controls(label)}")
    for path in written:
        print_result(str(path))
