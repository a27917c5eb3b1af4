"""The verbs of `thalweg data`: a look at data, and data sets by name. `thalweg.api` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError
from .console import as_json, out, say, visible
from .lazy import facade

DataName = Annotated[str, typer.Argument(metavar="NAME", help="see `thalweg data list`")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]

data = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@data.callback()
def data_top(context: typer.Context) -> None:
    """Look at data, and fetch data sets by name."""
    if context.invoked_subcommand is None:
        out(context.get_help())


@data.command("check")
def data_check(
    source: Annotated[str, typer.Argument(metavar="DATA", help="a folder, a file or the name of a data set")],
    size: Annotated[int | None, typer.Option(metavar="N", help="height and width that pictures are brought to")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse data with unreadable files")] = False,
    save: Annotated[str | None, typer.Option(metavar="FILE", help="draw one batch into this picture")] = None,
    json: Json = False,
) -> None:
    """Say what is in a data set, and what is wrong with it.

    Format, counts per class, sizes, unreadable files, duplicates across the splits.

    \b
    thalweg data check photos/
    thalweg data check photos/ --save batch.png
    """
    api = facade()

    wanted = {} if size is None else {"size": size}
    found = api.data_check(source, strict=strict, **wanted)
    if save:
        _save(found.picture(), save)
    if json:
        return out(as_json(found.json()))
    for line in found.lines():
        out(visible(line))


def _save(picture: Any, path: str) -> None:
    """Writes a Pillow image where the user asked for it."""
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        picture.save(path)
    except ValueError:
        raise OptionError(f"--save {path}: no picture has this ending.", cure="Give a name that ends in .png") from None
    say(f"one batch is drawn in {visible(path)}")


@data.command("list")
def data_list(json: Json = False) -> None:
    """List the data sets that have a name, and where they are found."""
    api = facade()

    from . import predictions as answers

    for line in answers.listing(api.data_list(), json):
        out(line)


@data.command("get")
def data_get(
    name: DataName, offline: Annotated[bool, typer.Option("--offline", help="never use the network")] = False
) -> None:
    """Fetch a data set by name, and print where it is.

    \b
    thalweg data get mnist
    """
    api = facade()

    folder = api.data_get(name, offline=offline)
    if folder is None:
        return say(f"'{name}' came with the installation; there is nothing to fetch.")
    out(str(folder))


@data.command("sample")
def data_sample(
    name: DataName,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="how many pictures")] = 5,
    folder: Annotated[str, typer.Option("--out", metavar="DIR", help="where to write them")] = "samples",
) -> None:
    """Write a few pictures of a test split as PNG files.

    \b
    thalweg data sample digits --count 5 --out digits/
    """
    api = facade()

    for path in api.data_sample(name, count, folder):
        out(str(path))
