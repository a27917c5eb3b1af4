"""The flags of `thalweg train` come from the options, and only what was given is passed on."""

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Annotated, get_args

import pytest

from thalweg.cli import option_flags
from thalweg.config.options import TrainOptions
from thalweg.config.parsing import Alias, Range, option_fields
from thalweg.errors import OptionError


@dataclass(frozen=True)
class OwnOptions:
    """Options of a task; `lr` is also a common one."""

    width: Annotated[int, "width"] = 3
    lr: Annotated[float, "another learning rate"] = 0.5


def parse(flags, settings=()):
    return option_flags.parse_flags(flags, settings, [TrainOptions])


def test_every_option_has_a_flag_except_data_and_model_kwargs():
    def verb(task: str = "x", **given):
        """Do nothing."""

    option_flags.add_flags(verb, TrainOptions)
    common = {field.name for field in dataclasses.fields(TrainOptions)} - {"data", "model_kwargs"}
    parameters = inspect.signature(verb).parameters
    assert set(parameters) == common | {"task"}
    assert all(parameters[name].default is None for name in common)
    option_flags.add_flags(verb, TrainOptions, OwnOptions)
    assert set(inspect.signature(verb).parameters) == common | {"task", "width"}
    option_flags.add_flags(verb, TrainOptions)
    assert set(inspect.signature(verb).parameters) == common | {"task"}


def test_only_given_options_are_passed_on():
    assert parse({"epochs": None, "lr": "0.1", "compile": None}) == {"lr": 0.1}
    assert parse({"compile": False}) == {"compile": False}
    assert parse({}) == {}


def test_values_are_converted_to_the_type_of_the_option():
    flags = {"batch_size": "auto", "steps": "100", "lr": "3e-4", "optimizer": "muon", "time_budget": "2m"}
    options = parse(flags)
    assert options == {"batch_size": "auto", "steps": 100, "lr": 3e-4, "optimizer": "muon", "time_budget": "2m"}
    assert isinstance(options["steps"], int)


def test_an_option_that_is_true_false_or_none_is_a_switch():
    def verb(**given):
        """Do nothing."""

    option_flags.add_flags(verb, TrainOptions)
    for name in ("freeze", "keep_best"):
        (_, flag) = get_args(inspect.signature(verb).parameters[name].annotation)
        assert (flag.default, *flag.param_decls) == (f"--{name.replace('_', '-')}/--no-{name.replace('_', '-')}",)
        words = [f"--{name.replace('_', '-')}", "classify"]
        assert option_flags.scan_words(words, (), [TrainOptions])[0] == "classify"


def test_an_alias_is_a_second_flag_of_the_same_option():
    @dataclass(frozen=True)
    class Options:
        side: Annotated[int, "side", Range(1, 9), Alias("size")] = 3

    def verb(**given):
        """Do nothing."""

    option_flags.add_flags(verb, Options)
    (_, flag) = get_args(inspect.signature(verb).parameters["side"].annotation)
    assert (flag.default, *flag.param_decls) == ("--side", "--size")
    assert option_flags.scan_words(["--size", "4", "x"], (), [Options])[0] == "x"
    assert option_fields(Options)["side"].range == Range(1, 9)


def test_the_first_dataclass_decides_on_a_shared_name():
    assert option_flags.parse_flags({"width": "7"}, ["lr=auto"], [TrainOptions, OwnOptions]) == {
        "width": 7,
        "lr": "auto",
    }


@pytest.mark.parametrize("flags", [{"steps": "1.5"}, {"steps": "many"}, {"optimizer": "adamm"}, {"lr": "nan"}])
def test_a_value_that_does_not_fit_names_option_and_value(flags):
    with pytest.raises(OptionError) as error:
        parse(flags)
    ((name, value),) = flags.items()
    assert (error.value.option, error.value.value) == (name, value)
    assert error.value.allowed


def test_set_reaches_options_by_name_and_the_model_otherwise():
    options = parse({}, ["weight-decay=0.01", "activation=tanh", "widths=128,64", "bias=false"])
    assert options == {"weight_decay": 0.01, "model_kwargs": {"activation": "tanh", "widths": [128, 64], "bias": False}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("tanh", "tanh"),
        ("true", True),
        ("null", None),
        ("128,64", [128, 64]),
        ("128,", [128]),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("'a,b'", "a,b"),
        ("", None),
        ("2020-01-31", "2020-01-31"),
        ("a=b", "a=b"),
    ],
)
def test_a_setting_reads_as_yaml_with_commas_as_a_list(text, value):
    assert option_flags.parse_yaml_value(text) == value
    assert type(option_flags.parse_yaml_value(text)) is type(value)


@pytest.mark.parametrize("text", ["[1", "a: b: c", "nan", "-inf", "1,.nan"])
def test_a_setting_that_no_file_can_hold_is_rejected(text):
    with pytest.raises(OptionError) as error:
        option_flags.parse_yaml_value(text)
    assert error.value.option == "set" and error.value.value == text


@pytest.mark.parametrize("setting", ["activation", "=3", " = 3"])
def test_a_setting_without_a_key_is_rejected(setting):
    with pytest.raises(OptionError) as error:
        parse({}, [setting])
    assert (error.value.option, error.value.value) == ("set", setting)


@pytest.mark.parametrize(
    ("flags", "settings", "name"), [({"lr": "0.1"}, ["lr=0.2"], "lr"), ({}, ["width=1", "width=2"], "width")]
)
def test_the_same_setting_twice_is_rejected(flags, settings, name):
    with pytest.raises(OptionError) as error:
        parse(flags, settings)
    assert error.value.option == name


def test_epochs_with_a_plus_are_left_to_the_resumed_run():
    assert parse({"epochs": "+5"}) == {"epochs": "+5"}
    with pytest.raises(OptionError) as error:
        parse({"epochs": "+many"})
    assert error.value.option == "epochs"


def test_choices_of_a_type_are_those_of_its_literals():
    fields = option_fields(TrainOptions)
    assert fields["schedule"].choices == ("constant", "step", "linear", "cosine", "one-cycle")
    assert fields["batch_size"].choices == ("auto",)
    assert fields["seed"].choices == ()


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("classify photos", "classify"),
        ("--lr 0.1 --freeze classify", "classify"),
        ("--lr=0.1 classify", "classify"),
        ("--lr 0.1", None),
        ("-- classify", None),
        ("- x", "-"),
    ],
)
def test_the_first_positional_word_is_found_among_flags(words, first):
    assert option_flags.scan_words(words.split(), (), [TrainOptions])[0] == first


def test_the_value_of_a_flag_is_found_in_both_spellings():
    flags = ["--out", "--recipe"]
    assert option_flags.scan_words(["x", "--out", "a"], flags) == ("x", {"--out": "a"})
    assert option_flags.scan_words(["--out=a=b", "--recipe", "r", "x"], flags) == (
        "x",
        {"--out": "a=b", "--recipe": "r"},
    )
    assert option_flags.scan_words(["--out", "a", "--out", "b"], flags) == (None, {"--out": "a"})
    assert option_flags.scan_words(["x", "--out"], flags) == ("x", {})
    assert option_flags.scan_words(["--outer", "a"], flags) == ("a", {})
