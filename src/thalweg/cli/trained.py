"""The verbs for trained models: evaluate, predict, sample, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..errors import OptionError, ThalwegError
from . import option_flags
from .console import escape_controls, format_cell, format_table, print_notice, print_result, print_text, to_json

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="run folder, bundled model, or ImageNet model name")]
WeightsOption = Annotated[
    str | None, typer.Option(metavar="imagenet|FILE|RUN", help="weights for a model's name  [default: imagenet]")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="never use the network")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def evaluate(
    run: RunArgument,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="other data than the run's own")] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="train|val|test|all", help="which split  [default: test; all, where data has none]"),
    ] = None,
    weights: WeightsOption = None,
    offline: OfflineOption = False,
    save: Annotated[str | None, typer.Option(metavar="DIR", help="write plots into DIR/plots")] = None,
    json: JsonOption = False,
    **given: Any,
) -> None:
    """Evaluate a run on its test split, or on other data.

    `thalweg evaluate RUN --help` lists the options of that run's task too.

    \b
    thalweg evaluate runs/a
    thalweg evaluate runs/a other_photos/ --json
    """
    options = option_flags.parse_flags(given, (), _verb_option_types("evaluate"))
    from .. import api

    result = api.load(run, weights, offline).evaluate(data=data, split=split, save=save, **options)
    if json:
        return print_result(to_json(result))
    print_result(f"{format_cell(result['data'])}, {result['split']}")
    rows = [(name, value) for name, value in result["metrics"].items() if isinstance(value, int | float | str)]
    without = result.get("trained_on")
    heads = ["metric", "value"]
    if without and without["metrics"]:
        heads.append("without those trained on")
        rows = [(name, value, without["metrics"].get(name)) for name, value in rows]
    for line in format_table(heads, rows):
        print_result(line)
    for name, value in result["details"].items():
        if isinstance(value, str):
            print_result(f"{name}: {format_cell(value)}")


def predict(
    run: RunArgument,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="files, folders, patterns, URLs, text; - is standard input")
    ],
    batch_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="sources at a time  [default: as many as are fastest]")
    ] = None,
    save: Annotated[str | None, typer.Option(metavar="DIR", help="write files of every prediction")] = None,
    weights: WeightsOption = None,
    offline: OfflineOption = False,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per source")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="print CSV")] = False,
    **given: Any,
) -> int:
    """Predict for sources. Unreadable ones are reported and skipped; the exit code is then 3.

    Several models, separated by commas, are compared side by side. ImageNet models are downloaded when they are named
    for the first time. `thalweg predict RUN --help` lists the options of that run's task too.

    \b
    thalweg predict digits-lenet my_digit.png
    thalweg predict vgg16,resnet152,inception_v3 stage.jpg         side by side
    thalweg predict runs/a photos/ --json
    thalweg predict runs/a 'new/*.jpg' --save predictions/
    """
    from . import predictions

    if json and csv:
        raise OptionError("--json and --csv are given together; expected one.", option="csv")
    options = option_flags.parse_flags(given, (), _verb_option_types("predict"))
    from .. import api

    listed = predictions.expand_stdin(sources, sys.stdin)
    names = [run] if os.path.exists(run) else [name.strip() for name in run.split(",")]
    if batch_size is not None:
        options["batch_size"] = batch_size
    results = api.compare_models(names, listed, weights, offline, save=save, **options)
    form = "csv" if csv else "table"
    if json:
        form = "json"
    if len(names) == 1:
        return predictions.print_predictions(results[names[0]], form)
    return predictions.print_comparison(results, form)


def sample(
    run: RunArgument,
    save: Annotated[str | None, typer.Option(metavar="DIR", help="write files of every sample")] = None,
    offline: OfflineOption = False,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per sample")] = False,
    **given: Any,
) -> None:
    """Generate samples: text, images. The k-th sample depends on seed + k alone.

    `thalweg sample RUN --help` lists the options of that run's task too.

    \b
    thalweg sample runs/book --prompt "Once" --length 500 --seed 1
    thalweg sample runs/digits --count 16 --seed 0 --save samples/
    """
    options = option_flags.parse_flags(given, (), _verb_option_types("sample"))
    from .. import api
    from ..inference.predict import save_prediction

    model = api.load(run, None, offline)
    parsed = model.sample_options(options)
    if not json and save is None and options.get("count", 1) == 1:
        pieces = model.task.stream(model.model, model.spec, parsed)
        if pieces is not None:
            for piece in pieces:
                print_text(piece)
            return print_result()
    prediction = None
    for prediction in model.task.sample(model.model, model.spec, parsed):
        if save is not None:
            for path in save_prediction(prediction, save):
                print_notice(f"wrote {path}")
        if json:
            print_result(to_json(prediction.json()))
        elif save is None:
            for line in prediction.brief():
                print_result(escape_controls(line))
    if save is None and prediction is not None and ".txt" not in prediction.files():
        print_notice("--save DIR writes them as files.")


def export(
    run: RunArgument,
    format: Annotated[str, typer.Option(metavar="onnx", help="file format")] = "onnx",
    out_path: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="where to write  [default: in the run]")
    ] = None,
    weights: WeightsOption = None,
    offline: OfflineOption = False,
) -> None:
    """Export a model for other programs, and prove that it agrees.

    \b
    thalweg export runs/a --format onnx
    """
    from .. import api

    report = api.load(run, weights, offline).export(format=format, out=out_path)
    print_notice(report.summary())
    print_result(str(report.path))


#: the task of the run that the command line names, per verb
_known_tasks: dict[str, str] = {}


def prepare_flags(verb: str, words: Sequence[str]) -> None:
    """Give `evaluate`, `predict` or `sample` the flags of the task of the run that the words name."""
    function = {"evaluate": evaluate, "predict": predict, "sample": sample}[verb]
    name, values = option_flags.scan_words(words, ["--batch-size", "--save", "--split", "--weights"])
    _known_tasks.pop(verb, None)
    if name is not None:
        from .. import api

        first = name if os.path.exists(name) else name.split(",")[0].strip()
        try:
            _known_tasks[verb] = api.task_of(first, values.get("--weights"))
        except ThalwegError:  # reported by the verb itself
            pass
    option_flags.add_flags(function, *_verb_option_types(verb))


def _verb_option_types(verb: str) -> list[type]:
    """Return the task's own options of a verb."""
    name = _known_tasks.get(verb)
    if name is None:
        return []
    from ..registry import find_task

    task = find_task(name)
    cls = {"evaluate": task.EvaluateOptions, "predict": task.PredictOptions, "sample": task.SampleOptions}[verb]
    return [] if cls is None else [cls]
