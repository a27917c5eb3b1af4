"""What can be said of a training: one dataclass that is the flags, the help, the JSON schema and the file of a recipe.

Imports no torch, so that `thalweg --help` is quick.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ..errors import OptionError, did_you_mean


@dataclass(frozen=True)
class Range:
    """The least and the greatest that a number may be, of a setting or of every number in it."""

    low: float
    high: float


Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "muon"]
Schedule = Literal["constant", "step", "linear", "cosine", "one-cycle"]


@dataclass(frozen=True)
class Options:
    """Every setting of `thalweg train`. A value of None means: chosen for you, and printed in the plan."""

    data: Annotated[str | None, "a folder, a file or the name of a data set; see `thalweg data list`"] = None
    model: Annotated[str | None, "name of the network; see `thalweg models`"] = None
    arguments: Annotated[dict[str, Any], "arguments of the model, as --set activation=tanh"] = dataclasses.field(
        default_factory=dict
    )
    weights: Annotated[str | None, "what the network begins with: imagenet, a weights file, or another run"] = None
    freeze: Annotated[bool, "train the last layer only"] = False
    unfreeze: Annotated[int | None, "also train this many parts before the last layer; `thalweg models NAME`"] = None
    gradual: Annotated[float | None, "epochs after which one frozen part more is trained"] = None
    layer_decay: Annotated[float, "learning rate of each part as a share of that of the next, 0 to 1"] = 1.0
    cache: Annotated[bool, "answer every picture once where all but the last layer is frozen"] = True
    cached_views: Annotated[int, "random views of each picture that a frozen network answers once"] = 1
    epochs: Annotated[float | None, "passes over the training set in all"] = None
    steps: Annotated[int | None, "updates in all, instead of epochs"] = None
    time: Annotated[str | None, "time to train for, as 90s, 2m or 1h, instead of epochs"] = None
    batch: Annotated[int | Literal["auto"] | None, "examples per update, or auto to measure the quickest"] = None
    optimizer: Annotated[Optimizer | None, "how gradients become updates"] = None
    lr: Annotated[float | Literal["auto"] | None, "highest learning rate, or auto for a range test"] = None
    momentum: Annotated[float | None, "momentum, or Adam's first beta"] = None
    weight_decay: Annotated[float, "decay of the weights per update, times the learning rate"] = 0.0
    schedule: Annotated[Schedule | None, "how the learning rate goes over the run"] = None
    warmup: Annotated[float | None, "share of the run over which the learning rate rises, 0 to 1"] = None
    clip: Annotated[float | None, "largest norm of the gradient"] = None
    ema: Annotated[float, "decay of the averaged weights that are tested and saved; 0 for none"] = 0.0
    accumulate: Annotated[int, "micro-batches that a batch is divided into, to save memory"] = 1
    loss: Annotated[Literal["cross-entropy", "squared-error"], "what is minimised"] = "cross-entropy"
    smoothing: Annotated[float, "label smoothing, 0 to 1"] = 0.0
    balance: Annotated[bool, "weigh the classes so that rare ones count as much as frequent ones"] = False
    augment: Annotated[
        str, "comma-separated: shift, rotate, scale, shear, elastic, thickness, flip, cutout, as shift=3; or none"
    ] = "none"
    views: Annotated[
        Literal["one", "mirrored", "shifted"],
        "when answering: the picture, also its mirror image, or both also shifted by a pixel; answers are averaged",
    ] = "one"
    patience: Annotated[int | None, "stop after this many epochs without a better validation score; keeps the best"] = (
        None
    )
    valid: Annotated[float, "share of the training set held out for validation, where none is given"] = 0.1
    fold: Annotated[str | None, "validate on one of several equal parts of the training set, as 2/5"] = None
    size: Annotated[int | None, "height and width that pictures are brought to, in pixels"] = None
    strict: Annotated[bool, "refuse data with unreadable files instead of leaving them out"] = False
    seed: Annotated[int, "seed of everything random"] = 0
    device: Annotated[str, "auto, cpu, cuda, cuda:1 or mps"] = "auto"
    precision: Annotated[Literal["auto", "float32", "bfloat16"], "number format of the matrix products"] = "auto"
    threads: Annotated[int | None, "threads of the processor"] = None
    compile: Annotated[bool, "torch.compile; pays only on long runs"] = False
    graph: Annotated[bool, "record the update as a CUDA graph and replay it; on other devices nothing changes"] = False
    save_every: Annotated[float, "seconds between checkpoints inside an epoch"] = 60.0
    trail: Annotated[
        int | None, "how often to keep the weights, for `thalweg explain landscape`  [default: 12, less above 100 MB]"
    ] = None
    tensorboard: Annotated[bool, "also write TensorBoard's files into the run"] = False
    duplicates: Annotated[bool, "also tell the score without test pictures that nearly are training pictures"] = False
    report: Annotated[bool, "draw the pictures and write report.html at the end"] = True
    offline: Annotated[bool, "never use the network"] = False


# --- machinery: from values of any origin to a checked Options -------------------------------------------------------


def option_fields(cls: type = Options) -> dict[str, tuple[Any, str, Any]]:
    """name -> (type, help, default) for every field of a dataclass whose fields are `Annotated[type, help]`."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        kind, about = typing.get_args(hints[field.name])[:2]
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        found[field.name] = (kind, about, default)
    return found


def option_ranges(cls: type) -> dict[str, Range]:
    """name -> Range for the fields that are `Annotated[type, help, Range(low, high)]`."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {name: typing.get_args(hint)[2:] for name, hint in hints.items()}
    return {name: more[0] for name, more in found.items() if more}


def parse_options(values: Mapping[str, Any], cls: type = Options) -> Any:
    """Options from a mapping (a recipe's YAML, a form's JSON, keyword arguments); texts are converted.

    Raises OptionError naming the key, with the nearest known key, or the value and what is allowed.
    """
    known, ranges = option_fields(cls), option_ranges(cls)
    checked = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise OptionError(f"There is no option '{key}'.", cure=did_you_mean(name, known))
        checked[name] = convert(name, value, known[name][0], "--" if cls is Options else "")
        if name in ranges:
            _check_range(name, checked[name], ranges[name])
    return cls(**checked)


def _check_range(name: str, value: Any, allowed: Range) -> None:
    """Raises OptionError for a number outside of it, also inside of lists."""
    if isinstance(value, list):
        for inner in value:
            _check_range(name, inner, allowed)
    elif isinstance(value, int | float) and not allowed.low <= value <= allowed.high:
        between = f"{allowed.low:g} to {allowed.high:g}"
        raise OptionError(f"{name.replace('_', '-')}: {value:g} is not from {between}.", cure=f"Give {between}.")


def convert(name: str, value: Any, kind: Any, flag: str = "--") -> Any:
    """`value` as the type `kind`. Raises OptionError naming the option behind `flag`, the value and what is allowed."""
    for member in union_members(kind):
        done, result = _coerce(value, member)
        if done:
            return result
    told = f"{flag}{name.replace('_', '-')}: {value!r} is not {describe_type(kind)}."
    raise OptionError(told, cure="Give " + describe_type(kind) + ".")


def union_members(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, narrowest first; a plain type is its own only member."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return tuple(m for one in typing.get_args(kind) for m in union_members(one))
    return (kind,)


def _coerce(value: Any, member: Any) -> tuple[bool, Any]:
    """(True, converted) if `value` can be a `member`, else (False, None)."""
    if member is types.NoneType:
        return value is None or value == "none", None
    if typing.get_origin(member) is Literal:
        return isinstance(value, str) and value in typing.get_args(member), value
    if member is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return (
            (True, value) if isinstance(value, bool) else (str(value).lower() in words, words.get(str(value).lower()))
        )
    if member in (int, float):
        if isinstance(value, bool):
            return False, None
        try:
            number = member(value)
        except (TypeError, ValueError, OverflowError):
            return False, None
        whole = number == value or not isinstance(value, float)
        return whole and (member is int or math.isfinite(number)), number
    if typing.get_origin(member) is dict or member is dict:
        return isinstance(value, Mapping), dict(value) if isinstance(value, Mapping) else None
    if typing.get_origin(member) is list:
        return _coerce_list(value, typing.get_args(member)[0])
    return isinstance(value, member), value


def _coerce_list(value: Any, inner: Any) -> tuple[bool, Any]:
    """A list of `inner`: '1,2,3' is numbers, '1,2;3,4' rows of them; NumPy's arrays and tuples are lists too."""
    if isinstance(value, str):
        value = [part for part in value.strip().strip(";").split(";" if typing.get_origin(inner) is list else ",")]
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple) or not value:
        return False, None
    found = [_coerce(part.strip() if isinstance(part, str) else part, inner) for part in value]
    return all(done for done, _ in found), [one for _, one in found]


def describe_type(kind: Any) -> str:
    """A type in words: 'a whole number or auto'."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    told = []
    for member in union_members(kind):
        if member is types.NoneType:  # what is not given; nobody has to be told
            continue
        if typing.get_origin(member) is Literal:
            told.append(", ".join(typing.get_args(member)))
        elif typing.get_origin(member) is list:
            rows = typing.get_origin(typing.get_args(member)[0]) is list
            told.append("rows of numbers, as 1,2;3,4" if rows else "values with commas between, as 1,2,3")
        else:
            told.append(words.get(member, "a mapping"))
    return " or ".join(dict.fromkeys(told))


def json_schema(cls: type = Options) -> dict[str, Any]:
    """JSON schema of the options, for forms and editors."""
    names = {int: "integer", float: "number", str: "string", bool: "boolean", types.NoneType: "null"}
    properties, ranges = {}, option_ranges(cls)
    for name, (kind, about, default) in option_fields(cls).items():
        kinds, choices = [], []
        for member in union_members(kind):
            if typing.get_origin(member) is Literal:
                choices += typing.get_args(member)
            elif typing.get_origin(member) is list:
                kinds.append("array")
            else:
                kinds.append(names.get(member, "object"))
        either = [{"type": k} for k in kinds] + ([{"enum": choices}] if choices else [])
        properties[name] = {
            "description": about,
            "default": default,
            **(either[0] if len(either) == 1 else {"anyOf": either}),
            **({"minimum": ranges[name].low, "maximum": ranges[name].high} if name in ranges else {}),
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": cls.__name__,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def non_default(options: Any) -> dict[str, Any]:
    """The fields that differ from their defaults: the shortest mapping that `parse_options` turns into the same options."""
    defaults = type(options)()
    return {
        f.name: getattr(options, f.name)
        for f in dataclasses.fields(options)
        if getattr(options, f.name) != getattr(defaults, f.name)
    }
