"""Laws of every task's own options and of its DataSpec. A new task is held to them at once."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from tests.helpers.toy_tasks import (
    TASKS,
    dump_json,
    plan_toy,
    read_weights,
    train_toy,
    write_attribute_table,
    write_toy,
)
from thalweg import api
from thalweg.api import Run, TrainedModel
from thalweg.cli import trained as verbs
from thalweg.cli.train import train as train_verb
from thalweg.config.json_record import from_json, to_json
from thalweg.config.options import TrainOptions
from thalweg.config.parsing import OptionField, Range, option_fields, parse_options, union_members
from thalweg.config.size import Size
from thalweg.errors import ModelFileError, OptionError

OPTION_TYPES = {
    "train": [cls.TrainOptions for cls in TASKS.values()],
    "predict": [cls.PredictOptions for cls in TASKS.values()],
    "sample": [cls.SampleOptions for cls in TASKS.values() if cls.SampleOptions is not None],
    "evaluate": [cls.EvaluateOptions for cls in TASKS.values()],
    "explain": [cls.ExplainOptions for cls in TASKS.values()],
}
OWN_OPTIONS = [
    (verb, cls, field) for verb, types in OPTION_TYPES.items() for cls in types for field in option_fields(cls).values()
]
OWN_TRAIN_OPTIONS = [(task, name) for task, cls in TASKS.items() for name in option_fields(cls.TrainOptions)]

#: values of options of training whose type does not say a value that changes something on the toy data
VALUES: dict[tuple[str, str], Any] = {
    ("edit", "attributes"): "table.csv",
    ("edit", "classifier"): "digits-mlp",
    ("edit", "generator"): "toy-generator",
    ("edit", "measure"): ["brightness"],
    ("edit", "num_axes"): 2,
    ("edit", "num_latents"): 60,
    ("classify", "augment"): "shift",
    ("classify", "tta"): "flip",
    ("classify", "fold"): "2/5",
    ("classify", "storage"): "disk",
    ("classify", "image_size"): 8,
    ("forecast", "horizon"): 5,
    ("forecast", "lookback"): 21,
    ("forecast", "target"): ["temperature"],
    ("forecast", "season"): 5,
    ("forecast", "past_covariates"): ["temperature"],
    ("forecast", "future_covariates"): ["temperature"],
    ("forecast", "static_covariates"): ["size"],
    ("forecast", "split_rows"): [150, 40, 40],
    ("forecast", "resample"): "2d",
    ("generate", "image_size"): 8,
    ("generate", "num_eval_samples"): 60,
    ("generate", "loss"): "hinge",
    ("generate", "penalty_interval"): 1,
    ("generate", "augment"): "diff",
    ("generate", "growth_images"): 16,
    ("generate", "feature_network"): "digits-mlp",
    ("remember", "length"): 7,
    ("remember", "symbols"): 4,
    ("translate", "languages"): "aa,bb",
    ("translate", "max_length"): 5,
    ("translate", "teacher_forcing"): 0.5,
    ("translate", "vocabulary_size"): 20,
    ("write", "sequence_length"): 16,
    ("write", "vocabulary_size"): 310,
}
#: what an option needs beside it to mean something
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    ("classify", "cache_features"): {"freeze": True},
    ("classify", "cache_images"): {"storage": "disk", "image_size": 8},
    ("classify", "decode_threads"): {"storage": "disk"},
    ("classify", "feature_views"): {"freeze": True, "augment": "shift"},
    ("edit", "num_axes"): {"axes": "pca"},
    ("generate", "growth_images"): {"model": "progan"},
    ("generate", "image_size"): {"num_eval_samples": 60},
    ("generate", "mixing"): {"model": "stylegan"},
    ("write", "vocabulary_size"): {"vocabulary": "sentencepiece"},
}
#: options that apply while data is read
READ_FROM_DISK = {("classify", "fold"), ("classify", "image_size"), ("generate", "image_size")}
READ_FROM_DISK |= {("classify", name) for name in ("storage", "cache_images", "decode_threads")}
READ_FROM_DISK |= {("edit", name) for name in ("attributes", "classifier", "generator", "measure", "num_latents")}
READ_FROM_DISK |= {("remember", "length"), ("remember", "symbols")}
READ_FROM_DISK |= {("translate", "languages"), ("translate", "max_length"), ("translate", "reverse")}
#: options whose value is the path of something that has to be made first, and what makes it there
MADE_FILES = {
    ("edit", "attributes"): write_attribute_table,
    ("edit", "generator"): lambda path: train_toy("generate", path, steps=1, report=False),
}
#: options that only change how fast it is, so that a run may be resumed with another value
SAME_RESULT = {("classify", "decode_threads")}
#: lists of a DataSpec that may be empty: weights without a run have no names of classes
MAY_BE_EMPTY = {("classify", "classes"), ("generate", "classes")}


# --- how options are declared -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "cls", "field"), OWN_OPTIONS, ids=lambda value: getattr(value, "name", ""))
def test_an_option_has_help_and_says_what_is_allowed(verb, cls, field):
    assert field.help.strip() == field.help and len(field.help) > 3 and not field.help.endswith(".")
    members = [member for member in union_members(field.kind) if member is not type(None)]
    for member in members:
        is_number = member in (int, float) or typing.get_args(member)[:1] in ((int,), (float,))
        assert not is_number or field.range is not None, "numbers have a range"
        assert is_number or member in (bool, str, Size) or typing.get_origin(member) in (Literal, list, dict)


@pytest.mark.parametrize(
    ("verb", "function"),
    [("train", train_verb), ("evaluate", verbs.evaluate), ("predict", verbs.predict), ("sample", verbs.sample)],
)
def test_no_option_has_the_name_of_a_common_one(verb, function):
    common = {name for name in inspect.get_annotations(function) if name not in ("given", "return")}
    if verb == "train":
        common |= set(option_fields(TrainOptions))
    if verb == "predict":
        common |= set(inspect.signature(TrainedModel.predict).parameters)
    for cls in OPTION_TYPES[verb]:
        assert not common & set(option_fields(cls))


def test_default_values_are_allowed():
    for _, cls, field in OWN_OPTIONS:
        parsed = cls(**{field.name: field.default})
        assert getattr(parsed, field.name) == field.default
        assert field.range is None or field.default is None or field.default in field.range


def test_an_option_of_evaluating_is_one_of_training_and_not_given_by_default():
    for cls in TASKS.values():
        for name, field in option_fields(cls.EvaluateOptions).items():
            assert name in option_fields(cls.TrainOptions) and field.default is None


# --- options of other tasks and verbs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def short_run(task, tmp_path_factory) -> Run:
    return Run(train_toy(task, tmp_path_factory.mktemp("short") / "run", steps=2, report=False).run_dir)


def test_options_of_other_tasks_are_refused_by_name(task, tmp_path):
    own = option_fields(TASKS[task].TrainOptions)
    others = {"no_such_option": 1}
    for cls in TASKS.values():
        others |= {name: field.default for name, field in option_fields(cls.TrainOptions).items() if name not in own}
    for name, value in others.items():
        with pytest.raises(OptionError) as error:
            plan_toy(task, tmp_path / "run", **{name: 1 if value is None else value})
        assert error.value.option == name
    assert not (tmp_path / "run").exists()


def test_options_that_a_verb_does_not_own_are_refused(task, short_run):
    calls = {
        "evaluate": lambda **options: short_run.evaluate(TASKS[task]().toy_dataset(), **options),
        "predict": lambda **options: list(short_run.predict(["image.png"], **options)),
        "sample": lambda **options: list(short_run.sample(**options)),
        "explain": lambda **options: short_run.explain("image.png", **options),
    }
    for call in calls.values():
        with pytest.raises(OptionError):
            call(no_such_option=1)
        with pytest.raises(OptionError):
            call(lr=0.1)


def test_every_option_of_evaluating_changes_something(task, short_run):
    dataset = TASKS[task]().toy_dataset()
    plain = dump_json(short_run.evaluate(dataset))
    for name in option_fields(TASKS[task].EvaluateOptions):
        value = VALUES[task, name]
        assert dump_json(short_run.evaluate(dataset, **{name: value})) != plain
    assert dump_json(short_run.evaluate(dataset)) == plain


@pytest.mark.parametrize(("verb", "cls", "field"), OWN_OPTIONS, ids=lambda value: getattr(value, "name", ""))
def test_values_out_of_range_and_of_wrong_type_are_refused_by_name(verb, cls, field):
    for value in bad_values(field):
        with pytest.raises(OptionError) as error:
            parse_options({field.name: value}, cls)
        assert error.value.option.replace("-", "_") == field.name
        assert error.value.value == value


def bad_values(field: OptionField) -> list[Any]:
    """Return values that an option does not allow."""
    members = union_members(field.kind)
    values: list[Any] = [object()]
    if field.range is not None:
        values += [field.range.low - 1, field.range.high * 2 + 1]
    if any(typing.get_origin(member) is Literal for member in members) and str not in members:
        values.append("no such choice")
    return values


# --- options change something -----------------------------------------------------------------------------------------


def other_value(task: str, field: OptionField) -> Any:
    """Return an allowed value that is not the default."""
    if (task, field.name) in VALUES:
        return VALUES[task, field.name]
    for member in union_members(field.kind):
        if member is bool:
            return not field.default
        if typing.get_origin(member) is Literal:
            return next(choice for choice in typing.get_args(member) if choice != field.default)
        if member in (int, float) and field.range is not None:
            low = field.default if field.default is not None else field.range.low
            value = low + 1 if member is int else min(low + 0.5, (low + field.range.high) / 2)
            assert value in field.range
            return value
    raise AssertionError(f"give VALUES a value of {task}'s option {field.name}")


def describe_result(task: str, out: Path, data: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """Train two steps; return everything that the run is, but for the options themselves and times."""
    if data is None:
        run = train_toy(task, out, steps=2, report=False, **options)
    else:
        run = api.plan_training(
            task, str(data), out=out, steps=2, batch_size=16, cpu_threads=1, report=False, **options
        )
        for _ in run:
            pass
    values = run.record.json()
    values["results"].pop("seconds")
    for name in ("options", "task_options", "command", "started", "weights_sha256"):
        values.pop(name, None)
    weights = {name: value.tolist() for name, value in read_weights(out).items()}
    return {"record": values, "weights": weights}


@pytest.fixture(scope="module")
def plain_results(tmp_path_factory) -> dict[str, Any]:
    """Results without an option, by what they depend on; each is computed once."""
    return {"folder": tmp_path_factory.mktemp("plain")}


@pytest.mark.parametrize(("task_name", "name"), OWN_TRAIN_OPTIONS)
def test_every_own_option_of_training_changes_something(task_name, name, plain_results, tmp_path):
    field = option_fields(TASKS[task_name].TrainOptions)[name]
    needed = NEEDED.get((task_name, name), {})
    data = write_toy(task_name, tmp_path) if (task_name, name) in READ_FROM_DISK else None
    key = (task_name, dump_json(needed), str(data))
    if key not in plain_results:
        out = plain_results["folder"] / str(len(plain_results))
        plain_results[key] = describe_result(task_name, out, data, needed)
    options = {**needed, name: other_value(task_name, field)}
    if (task_name, name) in MADE_FILES:
        MADE_FILES[task_name, name](tmp_path / options[name])
        options[name] = str(tmp_path / options[name])
    is_same = describe_result(task_name, tmp_path / "run", data, options) == plain_results[key]
    assert is_same == ((task_name, name) in SAME_RESULT)


# --- DataSpec ---------------------------------------------------------------------------------------------------------


def toy_spec(task: str) -> Any:
    cls = TASKS[task]
    return cls().data_spec(cls().toy_dataset(), cls.TrainOptions())


@pytest.mark.parametrize("name", TASKS)
def test_the_data_spec_survives_json(name):
    spec = toy_spec(name)
    assert from_json(json.loads(dump_json(to_json(spec))), TASKS[name].DataSpec) == spec


def damaged_values(hint: Any, value: Any) -> list[Any]:
    """Return values that a field of a DataSpec does not allow: of wrong types, out of range, of a wrong length."""
    inner, *extras = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    damaged: list[Any] = [[{}] if isinstance(value, list) else {}, "no such value" if inner is not str else 1]
    if type(None) not in union_members(inner):
        damaged.append(None)
    for extra in extras:
        if isinstance(extra, Range):
            outside = [extra.low if extra.above else extra.low - 1, extra.high * 2 + 1]
            damaged += [[number] * len(value) if isinstance(value, list) else number for number in outside]
    return damaged


@pytest.mark.parametrize("name", TASKS)
def test_a_damaged_field_of_the_data_spec_is_named(name, tmp_path):
    cls = TASKS[name]
    out = tmp_path / "run"
    trained = train_toy(name, tmp_path / "whole", steps=1, report=False)
    out.mkdir()
    shutil.copy(trained.path / "run.json", out)  # without checksums, so that the fields themselves are read
    whole = json.loads((out / "run.json").read_text(encoding="utf-8"))
    hints = typing.get_type_hints(cls.DataSpec, include_extras=True)
    for field in dataclasses.fields(cls.DataSpec):
        value = whole["data_spec"][field.name]
        specs = [{**whole["data_spec"], field.name: bad} for bad in damaged_values(hints[field.name], value)]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            specs.append({key: item for key, item in whole["data_spec"].items() if key != field.name})
            if isinstance(value, list) and (name, field.name) not in MAY_BE_EMPTY:
                specs.append({**whole["data_spec"], field.name: []})
        for spec in specs:
            (out / "run.json").write_text(json.dumps({**whole, "data_spec": spec}), encoding="utf-8")
            with pytest.raises(ModelFileError) as error:
                api.load(out)
            assert field.name in str(error.value.option), (field.name, spec[field.name] if field.name in spec else None)
            assert Path(error.value.path) == out / "run.json"
