"""The command line. Everything is done by `thalweg.api`, which is imported only by the verb that needs it.

What scripts may rely on: results on standard output, notices and progress on standard error, the codes of exit_codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from ..config.options import TrainOptions
from ..config.parsing import describe_type, json_schema, option_fields
from ..errors import pluralize
from ..version import __version__
from . import exit_codes, train, trained
from .console import configure_streams, format_table, print_notice, print_result, to_json
from .data import data_app
from .explain import explain
from .trained import JsonOption
from .unknown_flags import unknown_flag_error
from .weights import weights_app

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, context_settings={"max_content_width": 100})
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.command()(train.train)
app.command()(trained.evaluate)
app.command()(trained.predict)
app.command()(trained.sample)
app.command()(explain)
app.command()(trained.export)


def _print_version(requested: bool) -> None:
    if requested:
        print_result(f"thalweg {__version__}")
        raise typer.Exit()


@app.callback()
def main_callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, evaluate, predict, sample, explain, export: deep learning on your own data.

    \b
    thalweg train classify                                handwritten digits, in a minute
    thalweg train classify photos/ --time-budget 10m      your own: one folder per class
    thalweg predict digits-lenet my_digit.png             a bundled model
    thalweg VERB --help                                   more about a verb
    """


def _print_rows(rows: Any, json: bool) -> None:
    """Print rows (mappings, or values with fields) as a table, or as a JSON list."""
    from . import predictions

    for line in predictions.format_rows(rows, json):
        print_result(line)


@app.command()
def tasks(json: JsonOption = False) -> None:
    """List the tasks: what can be trained."""
    from .. import api

    _print_rows(api.list_tasks(), json)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="show this model layer by layer")] = None,
    json: JsonOption = False,
) -> None:
    """List the models that can be trained, with their papers; or one, layer by layer.

    Of every layer: output shape, parameters, multiply-adds, receptive field. Then the layer groups, as --freeze and
    --unfreeze-groups count them.

    \b
    thalweg models
    thalweg models resnet18
    """
    from .. import api

    if not name:
        return _print_rows(api.list_models(), json)
    summary = {**api.layer_summary(name), "groups": api.list_layer_groups(name)}
    if json:
        return print_result(to_json(summary, indent=2))
    _print_rows([*summary["layers"], summary["total"]], json)
    print_result()
    _print_rows(summary["groups"], json)
    channels, side, _ = summary["input"]
    print_notice(
        f"For an input of {side} x {side} pixels, {pluralize(channels, 'channel')}, and "
        f"{pluralize(summary['outputs'], 'output')}."
    )


@app.command()
def recipes(json: JsonOption = False) -> None:
    """List the recipes: published results, and ours."""
    from .. import api

    _print_rows(api.list_recipes(), json)


@app.command("options")
def show_options(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="also those of a task")] = None,
    json: Annotated[bool, typer.Option("--json", help="print the JSON schema")] = False,
) -> None:
    """List every option of a training."""
    option_types: list[type] = [TrainOptions]
    if task is not None:
        from ..registry import find_task

        option_types.append(find_task(task).TrainOptions)
    if json:
        return print_result(to_json(json_schema(*option_types), indent=2))
    rows = []
    for cls in option_types:
        for field in option_fields(cls).values():
            allowed = describe_type(field.kind) + (f", {field.allowed}" if field.allowed else "")
            rows.append((field.flag, allowed, field.default, field.help))
    for line in format_table(("option", "takes", "default", "meaning"), rows):
        print_result(line)


@app.command()
def doctor(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="also verify the files of a run")] = None,
    json: JsonOption = False,
) -> int:
    """Check this machine for what Thalweg needs, and a run for damaged files.

    \b
    thalweg doctor
    thalweg doctor runs/a
    """
    from . import doctor as checks

    def named_data() -> Any:
        from .. import api

        return api.list_datasets()

    results = checks.run_checks(named_data)
    if run is not None:
        results.append(checks.check_run(run))
    if json:
        print_result(to_json({"ok": checks.all_ok(results), "checks": [vars(check) for check in results]}))
    else:
        for line in checks.format_checks(results):
            print_result(line)
    return 0 if checks.all_ok(results) else checks.EXIT_CODE


def prepare_flags(words: Sequence[str]) -> None:
    """Give the command that the words name the flags of their task."""
    if words[:1] == ["train"]:
        train.prepare_flags(words[1:])
    elif words and words[0] in ("evaluate", "predict", "sample"):
        trained.prepare_flags(words[0], words[1:])


def completion_words() -> list[str]:
    """Return the words that a shell wants completed; typer's scripts hand them over in the environment."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return line.split()[1:]


def run_command(words: Sequence[str]) -> Any:
    """Run the command that the words name; return its exit code or None. Raises what the command raises."""
    prepare_flags(completion_words() if "_THALWEG_COMPLETE" in os.environ else list(words))
    try:
        return app(args=list(words), prog_name="thalweg", standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        flag = getattr(error, "option_name", None)
        if context is None or not hasattr(error, "possibilities") or not flag:
            raise
        raise unknown_flag_error(context.command, flag) from None


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (None: those of the process); return the exit code."""
    configure_streams()
    os.environ["MPLBACKEND"] = "agg"  # images are drawn into memory, whatever the user's windows are drawn with
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        result = run_command(words)
        sys.stdout.flush()
    except BaseException as ended:
        return exit_codes.report_exit(ended)
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    """Run the command line; end the process with its exit code."""
    sys.exit(invoke())
