"""The help texts, held in tests/snapshots at 100 columns. `THALWEG_UPDATE_SNAPSHOTS=1 pytest` rewrites them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import thalweg
from thalweg.cli import main as cli
from thalweg.cli import option_flags, train, trained
from thalweg.cli.unknown_flags import list_flags
from thalweg.config.options import TrainOptions
from thalweg.registry import get_tasks

SNAPSHOTS = Path(__file__).parents[2] / "snapshots"
COMMANDS = [
    "",
    "train",
    "train classify",
    "evaluate",
    "predict",
    "sample",
    "explain",
    "export",
    "data",
    "weights",
    "models",
    "recipes",
    "doctor",
]
#: in the source, and no flags of ours: typer's own, other programs', beginnings of flags, an example of a wrong flag
OTHER_FLAGS = {"--help", "--force-reinstall", "--no-", "--batch"}
#: CSS variables look like flags
PAGES = ("html.py", "concept_page.py")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "thalweg")
def test_help_is_as_in_the_snapshot(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.invoke([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    path = SNAPSHOTS / f"{command.replace(' ', '-') or 'thalweg'}.txt"
    if os.environ.get("THALWEG_UPDATE_SNAPSHOTS") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if this is meant: THALWEG_UPDATE_SNAPSHOTS=1"


def iter_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command by its full name."""
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        yield from iter_commands(child, f"{name} {child_name}")


@pytest.fixture
def commands():
    """Every command by its full name, with the flags of all tasks."""
    tasks = list(get_tasks().values())
    option_flags.add_flags(train.train, TrainOptions, *[task.TrainOptions for task in tasks])
    option_flags.add_flags(trained.predict, *[task.PredictOptions for task in tasks])
    option_flags.add_flags(trained.sample, *[task.SampleOptions for task in tasks if task.SampleOptions is not None])
    return dict(iter_commands(get_command(cli.app), "thalweg"))


def test_every_command_that_takes_arguments_shows_an_example(commands):
    for name, command in commands.items():
        if any(parameter.param_type_name == "argument" for parameter in command.params):
            if name != "thalweg options":
                assert f"\n{name}" in command.help.replace("\n    ", "\n"), name


def test_every_flag_that_the_source_names_exists(commands):
    flags = set(OTHER_FLAGS)
    for command in commands.values():
        flags.update(list_flags(command))
    unknown = []
    for file in Path(thalweg.__file__).parent.rglob("*.py"):
        if file.name not in PAGES:
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", file.read_text(encoding="utf-8")))
            unknown += [f"{file.name}: {flag}" for flag in sorted(named - flags)]
    assert unknown == []
