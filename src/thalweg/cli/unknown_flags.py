"""Errors for flags that a command does not have: the right name for another tool's flag, or the nearest name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config.options import FOREIGN_NAMES
from ..config.parsing import option_fields
from ..errors import OptionError, did_you_mean

#: what to do instead of giving a flag that other tools have
_ADVICE = {
    "quiet": "Progress and notices go to standard error: add 2>/dev/null.",
    "silent": "Progress and notices go to standard error: add 2>/dev/null.",
    "verbose": "Unexpected errors print a traceback with THALWEG_DEBUG=1.",
    "gpu": "Did you mean --device cuda?",
    "gpus": "Did you mean --device cuda?",
    "fp16": "Did you mean --precision bfloat16?",
    "bf16": "Did you mean --precision bfloat16?",
}


def unknown_flag_error(command: Any, flag: str) -> OptionError:
    """Build the error for a `flag` ("--batch") that a typer command does not have."""
    flags = list_flags(command)
    name = flag.lstrip("-").replace("-", "_")
    own_name = FOREIGN_NAMES.get(name, name)
    own_flag = f"--{own_name.replace('_', '-')}"
    tasks = _find_tasks(command.name, own_name)
    if own_flag in flags:
        cure = f"Did you mean {own_flag}?"
    elif tasks:
        what = "TASK" if command.name == "train" else "RUN"
        cure = f"Did you mean {own_flag} of the task {' or '.join(tasks)}? {what} comes before the options."
    elif name in _ADVICE:
        cure = _ADVICE[name]
    else:
        cure = did_you_mean(flag, flags)
        if not cure.startswith("Did"):
            cure = f"See `thalweg {command.name} --help`."
    return OptionError(f"There is no option {flag} here.", cure, option=name, value=flag, allowed=flags)


def list_flags(command: Any) -> list[str]:
    """Return the flags of a typer command."""
    flags: list[str] = []
    for parameter in command.params:
        for flag in [*parameter.opts, *parameter.secondary_opts]:
            if flag.startswith("--"):
                flags.append(flag)
    return sorted(flags)


def _find_tasks(verb: str, name: str) -> Sequence[str]:
    """Return the tasks that have an option of that name for a verb."""
    attribute = f"{verb.capitalize()}Options"
    if verb not in ("train", "evaluate", "predict", "sample"):
        return []
    from ..registry import get_tasks

    tasks = []
    for task, cls in get_tasks().items():
        options = getattr(cls, attribute)
        if options is not None and name in option_fields(options):
            tasks.append(task)
    return tasks
