"""The verbs of `thalweg weights`: what there is, fetching it, and where it is. `thalweg.api` does the work."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .console import as_json, figure, out, table
from .lazy import facade

Model = Annotated[str, typer.Argument(metavar="MODEL", help="see `thalweg weights list`")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="imagenet, or imagenet-v2 where there are two")]

HEADINGS = ("model", "weights", "parameters (M)", "MB", "top-1 %", "top-5 %", "on this machine")

weights = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@weights.callback()
def weights_top(context: typer.Context) -> None:
    """Look at published weights, and fetch them by name."""
    if context.invoked_subcommand is None:
        out(context.get_help())


@weights.command("list")
def weights_list(json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List the published weights that have a name: size, accuracy on ImageNet, and whether they are here.

    \b
    thalweg weights list
    thalweg weights list --json        with address, checksum, licence, preprocessing
    """
    api = facade()

    rows = api.weights_list()
    if json:
        return out(as_json(rows, indent=2))
    for line in table(HEADINGS, [_cells(row) for row in rows]):
        out(line)
    for licence in dict.fromkeys(row["licence"] for row in rows):
        out()
        out(f"licence: {figure(licence)}")


def _cells(row: dict[str, Any]) -> list[Any]:
    """A row of the table; parameters in millions, size in millions of bytes."""
    sizes = [row["parameters"] / 1e6, round(row["megabytes"] * 2**20 / 1e6, 1)]
    return [row["model"], row["weights"], *sizes, row["top1"], row["top5"], "here" if row["where"] else "no"]


@weights.command("pull")
def weights_pull(
    model: Model,
    name: Name = "imagenet",
    offline: Annotated[bool, typer.Option("--offline", help="never use the network")] = False,
) -> None:
    """Fetch published weights, and print their file.

    \b
    thalweg weights pull resnet50
    thalweg weights pull resnet50 imagenet-v2
    """
    api = facade()

    out(str(api.weights_pull(model, name, offline=offline)))


@weights.command("where")
def weights_where(model: Model, name: Name = "imagenet") -> None:
    """Print the file of published weights; the exit code is 5 where they are not on this machine.

    \b
    thalweg weights where resnet50
    """
    api = facade()

    out(str(api.weights_where(model, name)))
