"""Training options that every task shares. What only one task understands is in that task's own TrainOptions."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from ..errors import OptionError, did_you_mean
from .parsing import Range, format_setting, non_default, option_fields, parse_options

T = TypeVar("T")

Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "muon"]
TrackerName = Literal["tensorboard", "mlflow", "wandb"]
Schedule = Literal["constant", "step", "linear", "cosine", "one-cycle"]

#: optimizers whose update can be recorded as a CUDA graph: they count and decide nothing on the host
GRAPHABLE_OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "muon")

#: the length of a run is given by one of these
LENGTHS = ("epochs", "steps", "time_budget")

#: names that other tools use for our options
FOREIGN_NAMES = {
    "learning_rate": "lr",
    "bs": "batch_size",
    "batch": "batch_size",
    "imgsz": "image_size",
    "img_size": "image_size",
    "size": "image_size",
    "lr_finder": "lr",
    "early_stopping": "patience",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "max_steps": "steps",
    "wd": "weight_decay",
    "accumulate_grad_batches": "grad_accum",
    "gradient_clip_val": "grad_clip",
    "pretrained": "weights",
    "name": "out",
    "project": "out",
    "workers": "cpu_threads",
}


@dataclass(frozen=True)
class TrainOptions:
    """The common options of `thalweg train`. None means: chosen automatically, and printed in the plan."""

    data: Annotated[str | None, "folder, file or name of a data set; see `thalweg data list`"] = None
    model: Annotated[str | None, "model name; see `thalweg models`"] = None
    model_kwargs: Annotated[dict[str, Any], "arguments of the model, as --set activation=tanh"] = dataclasses.field(
        default_factory=dict
    )
    weights: Annotated[str | None, "initial weights: imagenet, a weights file, or another run"] = None
    freeze: Annotated[bool, "train only the head"] = False
    unfreeze_groups: Annotated[
        int | None, "also train this many layer groups before the head; `thalweg models NAME`", Range(0, 10_000)
    ] = None
    unfreeze_every: Annotated[
        float | None, "unfreeze one more layer group every N epochs", Range(0, 1e6, above=True)
    ] = None
    layer_decay: Annotated[float, "learning rate of each layer group relative to the next", Range(0, 1, above=True)] = (
        1.0
    )
    epochs: Annotated[float | None, "passes over the training set", Range(0, 1e6, above=True)] = None
    steps: Annotated[int | None, "optimizer steps, instead of epochs", Range(1, 1e9)] = None
    time_budget: Annotated[str | None, "training time, as 90s, 2m or 1h, instead of epochs"] = None
    batch_size: Annotated[
        int | Literal["auto"] | None, "examples per step, or auto to measure the fastest", Range(1, 1e7)
    ] = None
    optimizer: Annotated[Optimizer | None, "update rule"] = None
    lr: Annotated[
        float | Literal["auto"] | None, "peak learning rate, or auto for a range test", Range(0, 1e30, above=True)
    ] = None
    momentum: Annotated[float | None, "momentum, or Adam's first beta", Range(0, 1, below=True)] = None
    beta2: Annotated[float | None, "Adam's second beta", Range(0, 1, below=True)] = None
    weight_decay: Annotated[float, "weight decay per step, times the learning rate", Range(0, 1e6)] = 0.0
    schedule: Annotated[Schedule | None, "learning-rate schedule"] = None
    warmup_fraction: Annotated[float | None, "fraction of the run over which the learning rate rises", Range(0, 1)] = (
        None
    )
    grad_clip: Annotated[float | None, "largest norm of the gradient", Range(0, 1e30, above=True)] = None
    ema_decay: Annotated[
        float | None, "decay of the averaged weights that are evaluated and saved; 0 for none", Range(0, 1, below=True)
    ] = None
    grad_accum: Annotated[int, "micro-batches per step, to save memory", Range(1, 1e6)] = 1
    patience: Annotated[
        int | None, "stop after this many epochs without a better validation metric; keeps the best", Range(1, 1e6)
    ] = None
    keep_best: Annotated[
        bool | None, "save the weights of the best epoch instead of the last  [default: with --patience]"
    ] = None
    val_fraction: Annotated[
        float, "fraction of the training set held out for validation, where none is given", Range(0, 1, below=True)
    ] = 0.1
    strict: Annotated[bool, "refuse data with unreadable files instead of skipping them"] = False
    seed: Annotated[int, "seed of everything random", Range(0, 2**32 - 1)] = 0
    device: Annotated[str, "auto, cpu, cuda, cuda:1 or mps"] = "auto"
    precision: Annotated[Literal["auto", "float32", "bfloat16"], "number format of matrix products"] = "auto"
    cpu_threads: Annotated[int | None, "CPU threads", Range(1, 4096)] = None
    compile: Annotated[bool, "torch.compile; pays only on long runs"] = False
    cuda_graph: Annotated[bool, "record the update as a CUDA graph and replay it; ignored on other devices"] = False
    checkpoint_every: Annotated[float, "seconds between checkpoints inside an epoch", Range(0, 1e9)] = 60.0
    snapshots: Annotated[
        int | None,
        "weight snapshots for `thalweg explain landscape`  [default: 12, fewer above 100 MB]",
        Range(0, 1000),
    ] = None
    tracker: Annotated[
        list[TrackerName] | None, "also log to tensorboard, mlflow or wandb, with commas between, in the run's folder"
    ] = None
    tensorboard: Annotated[bool, "the same as --tracker tensorboard"] = False
    report: Annotated[bool, "write the plots and report.html at the end"] = True
    offline: Annotated[bool, "never use the network"] = False


def split_options(values: Mapping[str, Any], task_class: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split option values into the common ones and those of a task.

    Args:
        values: Option values by name.
        task_class: The task's own annotated dataclass.

    Returns:
        The common values and the task's own values.

    Raises:
        OptionError: For a name that is neither, with the nearest known ones.
    """
    common_fields = option_fields(TrainOptions)
    task_fields = option_fields(task_class)
    common: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in common_fields:
            common[name] = value
        elif name in task_fields:
            own[name] = value
        else:
            raise unknown_option(name, [*common_fields, *task_fields])
    return common, own


def unknown_option(name: str, known: list[str]) -> OptionError:
    """Build the error for an option that does not exist."""
    flag = name.replace("_", "-")
    foreign = FOREIGN_NAMES.get(name)
    if foreign in (*known, "out"):  # the run's folder is an option of the verb, not of the training
        cure = f"Did you mean --{str(foreign).replace('_', '-')}?"
    else:
        cure = did_you_mean(flag, [other.replace("_", "-") for other in known])
    return OptionError(f"There is no option --{flag} here.", cure, option=name, allowed=sorted(known))


def parse_duration(text: str) -> float:
    """Parse '90s', '2m', '1.5h' or '90' into seconds. Raises OptionError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(text))
    if not match or float(match[1]) <= 0:
        raise OptionError(
            f"--time-budget: cannot parse {text!r}; expected e.g. 90s, 2m or 1h.", option="time_budget", value=text
        )
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def validate_options(options: TrainOptions) -> None:
    """Raise OptionError for combinations that no run can have."""
    lengths = []
    for name in LENGTHS:
        if getattr(options, name) is not None:
            lengths.append(name)
    if len(lengths) > 1:
        flags = "--" + " and --".join(lengths).replace("_", "-")
        raise OptionError(f"{flags} are given together; expected one length of the run.", option=lengths[1])
    if options.time_budget is not None:
        parse_duration(options.time_budget)
    if options.optimizer == "nesterov" and options.momentum == 0:
        raise OptionError(
            "--optimizer nesterov needs a momentum above 0.", "Leave --momentum out, or take sgd.", option="momentum"
        )
    graphable = (options.optimizer or "adamw") in GRAPHABLE_OPTIMIZERS
    if options.cuda_graph and (options.unfreeze_every is not None or not graphable):
        raise OptionError(
            "--cuda-graph records one update for all steps; --unfreeze-every and some optimizers change it.",
            f"Leave --cuda-graph or --unfreeze-every out, and give --optimizer {', '.join(GRAPHABLE_OPTIMIZERS)}.",
            option="cuda_graph",
            allowed=GRAPHABLE_OPTIMIZERS,
        )


def parse_train_options(values: Mapping[str, Any]) -> TrainOptions:
    """Parse the common options from a mapping. Raises OptionError."""
    return parse_options(values, TrainOptions, prefix="--")


def parse_run_options(values: Mapping[str, Any], task_class: type[T]) -> tuple[TrainOptions, T]:
    """Parse the common options and those of a task from one mapping.

    Args:
        values: Option values by name.
        task_class: The task's own annotated dataclass.

    Returns:
        The common options and the task's own.

    Raises:
        OptionError: For an unknown name, and a value that is not allowed.
    """
    common, own = split_options(values, task_class)
    return parse_options(common, TrainOptions, "--"), parse_options(own, task_class, "--")


def format_command(task: str, options: TrainOptions, task_options: Any) -> str:
    """Return the command line that repeats a run."""
    words = ["thalweg", "train", task]
    if options.data:
        words.append(str(options.data))
    for name, value in {**non_default(options), **non_default(task_options)}.items():
        flag = "--" + name.replace("_", "-")
        if name == "model_kwargs":
            for key, item in value.items():
                words += ["--set", f"{key}={format_setting(item)}"]
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif name != "data":
            words += [flag, format_setting(value)]
    return shlex.join(words)
