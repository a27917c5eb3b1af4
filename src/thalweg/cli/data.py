"""The verbs of `thalweg data`: check data, and download data sets by name. `thalweg.api` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..config.parsing import convert
from ..config.size import Size
from ..errors import OptionError
from ..io.log import Notify
from .console import ReadingProgress, escape_controls, print_notice, print_result, to_json

DataArgument = Annotated[str, typer.Argument(metavar="NAME", help="see `thalweg data list`")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]

data_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@data_app.callback()
def data_callback(context: typer.Context) -> None:
    """Check data, and download data sets by name."""
    if context.invoked_subcommand is None:
        print_result(context.get_help())


@data_app.command("check")
def data_check(
    source: Annotated[str, typer.Argument(metavar="DATA", help="a folder, a file or the name of a data set")],
    image_size: Annotated[
        str | None, typer.Option(metavar="N|WIDTHxHEIGHT", help="size of the images in pixels, a square or not")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="check it for this task  [default: the one that recognizes it]")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse data with unreadable files")] = False,
    save: Annotated[str | None, typer.Option(metavar="FILE", help="draw one batch into this image")] = None,
    json: JsonOption = False,
) -> None:
    """Check a data set: what is in it, and what would spoil a training.

    Format, counts per class, sizes, unreadable files, duplicates across the splits.

    \b
    thalweg data check photos/
    thalweg data check photos/ --save batch.png
    """
    from .. import api

    options = {} if image_size is None else {"image_size": convert("image_size", image_size, int | Size)}
    notify = Notify(print_notice, ReadingProgress().show)
    report = api.check_dataset(source, task, strict=strict, notify=notify, **options)
    if save:
        _save_image(report.picture(), save)
    if json:
        return print_result(to_json(report.json()))
    for line in report.lines():
        print_result(escape_controls(line))


def _save_image(image: Any, path: str) -> None:
    """Write an image as --save says. Raises OptionError for an ending that no format has."""
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        image.save(path)
    except ValueError:
        raise OptionError(
            f"--save: {path} has an unknown ending; expected an image, as batch.png.", option="save", value=path
        ) from None
    print_notice(f"wrote {path}")


@data_app.command("list")
def data_list(json: JsonOption = False) -> None:
    """List the data that has a name, of every task: how much it is, its terms, and where it is."""
    from .. import api
    from . import predictions

    for line in predictions.format_rows(_readable_sizes(api.list_datasets(), json), json):
        print_result(line)


@data_app.command("download")
def data_download(
    name: DataArgument, offline: Annotated[bool, typer.Option("--offline", help="never use the network")] = False
) -> None:
    """Download a data set by name, and print where it is.

    \b
    thalweg data download mnist
    """
    from .. import api

    folder = api.download_dataset(name, offline=offline)
    if folder is None:
        return print_notice(f"'{name}' is bundled or made here; there is nothing to download.")
    print_result(str(folder))


@data_app.command("export-samples")
def data_export_samples(
    name: DataArgument,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="number of images")] = 5,
    folder: Annotated[str, typer.Option("--out", metavar="DIR", help="where to write them")] = "samples",
) -> None:
    """Write a few images of a test split as PNG files.

    \b
    thalweg data export-samples digits --count 5 --out digits/
    """
    from .. import api

    for path in api.export_samples(name, count, folder):
        print_result(str(path))


def _readable_sizes(rows: list[dict[str, Any]], json: bool) -> list[dict[str, Any]]:
    """Return the rows as people read them: sizes as 170.5 MB, and only what all rows have; JSON keeps everything."""
    if json or not rows:
        return rows
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    readable = []
    for row in rows:
        columns = {name: row[name] for name in shared}
        size = columns.get("bytes")
        if isinstance(size, int):
            columns["bytes"] = _format_size(size)
        readable.append(columns)
    return readable


def _format_size(size: int) -> str | None:
    """Format bytes; None for nothing."""
    if size >= 1e5:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.1f} kB" if size else None
