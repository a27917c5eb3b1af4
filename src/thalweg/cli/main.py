"""The verbs of the command line. Everything is done by `thalweg.api`, which is imported only by the verb that needs it.

What scripts may rely on: results on standard output, notices and progress on standard error, and the codes of exits.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from ..config import options
from ..errors import NotFoundError, OptionError, pluralize
from ..version import __version__
from . import exit_codes as exits
from . import option_flags as flags
from .console import (
    configure_streams,
    escape_controls,
    format_cell,
    format_table,
    is_main_process,
    make_progress,
    print_notice,
    print_result,
    to_json,
)
from .data import data_app as data_verbs
from .explain import explain
from .lazy import facade
from .weights import weights_app as weights_verbs

#: what several verbs take
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="a run's folder, a shipped model, or one of ImageNet")]
WeightsOption = Annotated[
    str | None,
    typer.Option(metavar="imagenet|FILE|RUN", help="weights for a model's name  [default: imagenet]"),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="never use the network")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(data_verbs, name="data")
app.add_typer(weights_verbs, name="weights")


def _print_version(asked: bool) -> None:
    if asked:
        print_result(f"thalweg {__version__}")
        raise typer.Exit()


@app.callback()
def main_callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From a path to a trained, tested, understood model.

    \b
    thalweg train classify                         handwritten digits, in a minute
    thalweg train classify photos/ --time 10m      your own: one folder per class
    thalweg predict digits-lenet my_digit.png      a model that comes with the package
    thalweg VERB --help                            more about a verb
    """


@app.command()
@flags.with_option_flags
def train(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="what to learn: classify")] = None,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="a folder, a file or the name of a data set")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="start from a recipe; see `thalweg recipes`")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="the run's folder  [default: a new one in runs/]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the run in --out exactly where it stopped")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any option, or an argument of the model")
    ] = None,
    **given: Any,
) -> None:
    """Train a model. The last line on standard output is the run's folder.

    \b
    thalweg train classify                                   the default data set and model
    thalweg train classify photos/ --time 10m --out runs/a   for ten minutes
    thalweg train classify mnist --model lenet --set activation=tanh
    thalweg train --recipe mnist-lenet                       as published
    thalweg train --resume --out runs/a --epochs +5          go on, for five epochs more
    """
    flags.check_relative_epochs(given["epochs"], resume)
    chosen = flags.parse_flags(given, settings or ()) | ({"task": task} if task else {})
    api = facade()

    try:
        training = api.plan_training(
            data=data,
            recipe=recipe,
            out=out,
            resume=resume,
            notice=lambda told: print_notice(escape_controls(told)),
            **chosen,
        )
    except NotFoundError as error:
        if task and os.path.exists(task):
            error.cure = f"Did you mean: thalweg train classify {task}"
        raise
    _run_training(training)


def _run_training(training: Any) -> None:
    """Shows the plan, the progress and the summary of a training, and its folder last."""
    for line in training.lines():
        print_notice(escape_controls(line))
    with make_progress() as shown:
        for report in training:
            shown.show(report)
    if is_main_process():
        for line in training.summary():
            print_result(escape_controls(line))
        print_result(str(training.path))


@app.command()
def evaluate(
    run: RunArgument,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="other data than the run's own")] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="train|valid|test|all", help="which part  [default: test; all, where data has none]"),
    ] = None,
    weights: WeightsOption = None,
    offline: OfflineOption = False,
    save: Annotated[str | None, typer.Option(metavar="DIR", help="write pictures of it into DIR/pictures")] = None,
    json: JsonOption = False,
) -> None:
    """Measure a run on its test set, or on other data.

    \b
    thalweg evaluate runs/a
    thalweg evaluate runs/a other_photos/ --json
    """
    api = facade()

    found = api.load(run, weights, offline).evaluate(data=data, split=split, save=save)
    if json:
        return print_result(to_json({"split": found["split"], "metrics": found["metrics"]}))
    print_result(f"{format_cell(found['data'])}, {found['split']}")
    for line in _metric_lines(found["metrics"]):
        print_result(line)


def _metric_lines(metrics: dict[str, Any]) -> list[str]:
    """Metrics as lines: single figures first, then what is counted per class."""
    single = [(name, value) for name, value in metrics.items() if isinstance(value, int | float | str)]
    return format_table(("metric", "value"), single)


@app.command()
def predict(
    run: RunArgument,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="files, folders, patterns, URLs; - is standard input")
    ],
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="how many classes to show  [default: 5; all of up to 10]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="pictures at a time  [default: as many as go quickest]")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="do not bring drawings to the form that the model saw")
    ] = False,
    save: Annotated[
        str | None, typer.Option(metavar="DIR", help="write a picture of every answer, and what the model saw")
    ] = None,
    weights: WeightsOption = None,
    offline: OfflineOption = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per source")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="one line of CSV per source")] = False,
) -> int:
    """Ask a model about pictures. Unreadable ones are named, the others answered; then the exit code is 3.

    Models of ImageNet are fetched when they are named for the first time; `thalweg weights list` has their sizes.

    \b
    thalweg predict digits-lenet my_digit.png
    thalweg predict vgg16,resnet152,inception_v3 stage.jpg         side by side
    thalweg predict runs/a photos/ --json
    thalweg predict runs/a 'new/*.jpg' --save answers/
    """
    from . import predictions as answers

    if json and csv:
        raise OptionError("--json and --csv cannot both be given.", cure="Choose one.")
    api = facade()
    asked = answers.expand_stdin(sources, sys.stdin)
    names = [run] if os.path.exists(run) else [name.strip() for name in run.split(",")]
    choices = {"top": top or 5, "batch": batch, "as_is": as_is, "save": save}
    found = api.predict(names, asked, weights, offline, **choices)
    form = "json" if json else "csv" if csv else "table"
    if len(names) == 1:
        return answers.print_predictions(found[names[0]], form, top)
    return answers.print_comparison(found, form, top)


app.command()(explain)


@app.command()
def export(
    run: RunArgument,
    format: Annotated[str, typer.Option(metavar="onnx", help="file format")] = "onnx",
    out_path: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="where to write  [default: in the run]")
    ] = None,
    weights: WeightsOption = None,
    offline: OfflineOption = False,
) -> None:
    """Write a model for other programs, and prove that it agrees.

    \b
    thalweg export runs/a --format onnx
    """
    api = facade()

    written = api.load(run, weights, offline).export(format=format, out=out_path)
    print_notice(written.told())
    print_result(str(written.path))


def _print_rows(rows: Any, json: bool) -> None:
    """Rows (mappings, or values with fields) as a table, or as a JSON list."""
    from . import predictions as answers

    for line in answers.format_rows(rows, json):
        print_result(line)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="show this model layer by layer")] = None,
    json: JsonOption = False,
) -> None:
    """List the models that can be trained, with their papers; or one, layer by layer.

    Of every layer: what it answers with, weights, multiply-adds, how many pixels across it sees. Then the parts, as
    --freeze and --unfreeze count them.

    \b
    thalweg models
    thalweg models resnet18
    """
    api = facade()
    if not name:
        return _print_rows(api.list_models(), json)
    found = {**api.layer_summary(name), "parts": api.list_layer_groups(name)}
    if json:
        return print_result(to_json(found, indent=2))
    _print_rows([*found["layers"], found["total"]], json)
    print_result()
    _print_rows(found["parts"], json)
    channels, side, _ = found["picture"]
    depth, classes = pluralize(channels, "channel"), pluralize(found["classes"], "class", "classes")
    print_notice(f"For a picture of {side} x {side} pixels, {depth}, and {classes}.")


@app.command()
def recipes(json: JsonOption = False) -> None:
    """List the recipes: published results, and ours."""
    api = facade()

    _print_rows(api.list_recipes(), json)


@app.command("options")
def show_options(json: Annotated[bool, typer.Option("--json", help="print the JSON schema")] = False) -> None:
    """List every option of a training."""
    if json:
        return print_result(to_json(options.json_schema(), indent=2))
    rows = [
        (name, options.describe_type(kind), default, about)
        for name, (kind, about, default) in options.option_fields().items()
    ]
    for line in format_table(("option", "takes", "default", "what it is"), rows):
        print_result(line)


@app.command()
def doctor(json: JsonOption = False) -> int:
    """Check this machine for what Thalweg needs.

    \b
    thalweg doctor
    """
    from . import doctor as checks

    def named_data() -> Any:
        api = facade()

        return api.list_datasets()

    found = checks.run_checks(named_data)
    if json:
        print_result(to_json({"fine": checks.all_ok(found), "checks": [vars(check) for check in found]}))
    else:
        for line in checks.format_checks(found):
            print_result(line)
    return 0 if checks.all_ok(found) else checks.EXIT_CODE


def invoke(arguments: Sequence[str] | None = None) -> int:
    """The command line as a function: does what `arguments` (None: those of the process) say, returns the exit code."""
    configure_streams()
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    return exits.run_with_exit_code(lambda: app(args=words, prog_name="thalweg", standalone_mode=False))


def main() -> NoReturn:
    """The command line; ends the process with its exit code."""
    sys.exit(invoke())
