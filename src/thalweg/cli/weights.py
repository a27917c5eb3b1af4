"""The verbs of `thalweg weights`: list, download, path. `thalweg.api` does the work."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .console import format_cell, format_table, print_result, to_json

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="see `thalweg weights list`")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="imagenet, or imagenet-v2 where there are two")]

HEADINGS = ("model", "weights", "parameters (M)", "MB", "top-1 %", "top-5 %", "on this machine")

weights_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@weights_app.callback()
def weights_callback(context: typer.Context) -> None:
    """List published weights, and download them by name."""
    if context.invoked_subcommand is None:
        print_result(context.get_help())


@weights_app.command("list")
def weights_list(json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List the published weights that have a name: size, accuracy on ImageNet, and whether they are here.

    \b
    thalweg weights list
    thalweg weights list --json        with address, checksum, license, preprocessing
    """
    from .. import api

    rows = api.list_weights()
    if json:
        return print_result(to_json(rows, indent=2))
    for line in format_table(HEADINGS, [_format_row(row) for row in rows]):
        print_result(line)
    for license in dict.fromkeys(row["license"] for row in rows):
        print_result()
        print_result(f"license: {format_cell(license)}")


def _format_row(row: dict[str, Any]) -> list[Any]:
    """Return a row of the table: parameters in millions, size in millions of bytes."""
    sizes = [row["parameters"] / 1e6, round(row["megabytes"] * 2**20 / 1e6, 1)]
    return [row["model"], row["weights"], *sizes, row["top1"], row["top5"], "here" if row["where"] else "no"]


@weights_app.command("download")
def weights_download(
    model: ModelArgument,
    name: NameArgument = "imagenet",
    offline: Annotated[bool, typer.Option("--offline", help="never use the network")] = False,
) -> None:
    """Download published weights, and print their file.

    \b
    thalweg weights download resnet50
    thalweg weights download resnet50 imagenet-v2
    """
    from .. import api

    print_result(str(api.download_weights(model, name, offline=offline)))


@weights_app.command("path")
def weights_path(model: ModelArgument, name: NameArgument = "imagenet") -> None:
    """Print the file of published weights; the exit code is 5 where they are not on this machine.

    \b
    thalweg weights path resnet50
    """
    from .. import api

    print_result(str(api.get_weights_path(model, name)))
