"""The public names of `import thalweg` and of `thalweg.api`, and the signatures that editors show."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import operator
import subprocess
import sys
import typing

import pytest

import thalweg as tw
from thalweg import api, registry
from thalweg.config.options import TrainOptions
from thalweg.config.parsing import union_members
from thalweg.config.size import Size
from thalweg.errors import NotFoundError, OptionError
from thalweg.tasks.train_keywords import TrainKeywords

#: public names that `thalweg.api` offers and other modules define
REEXPORTED = {
    "Prediction",
    "Run",
    "TrainedModel",
    "UnreadableSource",
    "download_weights",
    "get_weights_path",
    "list_weights",
    "load",
}


def test_the_names_of_the_package():
    assert tw.__all__ == ["Run", "explain", "list_models", "list_recipes", "list_tasks", "load", "train"]
    assert dir(tw) == tw.__all__
    assert all(getattr(tw, name) is getattr(api, name) for name in tw.__all__)
    assert isinstance(tw.__version__, str)
    with pytest.raises(AttributeError):
        _ = tw.trian


def test_the_names_of_the_api_are_what_it_defines_and_reexports():
    tree = ast.parse(inspect.getsource(api))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert set(api.__all__) == {name for name in defined if not name.startswith("_")} | REEXPORTED
    assert api.__all__ == sorted(api.__all__)
    assert all(hasattr(api, name) for name in api.__all__)


def test_importing_the_package_imports_nothing_heavy():
    program = "import sys, thalweg; print([m for m in ('torch', 'numpy', 'PIL', 'yaml') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_the_signature_of_train_has_all_common_options():
    parameters = inspect.signature(tw.train).parameters
    defaults = {field.name: field for field in dataclasses.fields(TrainOptions)}
    for name in defaults:
        assert name in parameters and name in (tw.train.__doc__ or ""), name
    assert parameters["lr"].default is None and parameters["seed"].default == 0
    assert parameters["lr"].kind is inspect.Parameter.KEYWORD_ONLY
    assert list(parameters)[:2] == ["task", "data"]


def test_unknown_options_of_train_are_suggested():
    for name, suggestion in (("learning_rate", "--lr"), ("epoch", "epochs"), ("imgsz", "image")):
        with pytest.raises(OptionError) as error:
            tw.train("classify", "digits", **{name: 3})
        assert error.value.option == name and suggestion in error.value.cure
        assert "lr" in error.value.allowed


def test_listings_name_what_can_be_used():
    tasks = {row["name"]: row for row in tw.list_tasks()}
    models = {row["name"]: row for row in tw.list_models()}
    assert {"classify", "write"} <= set(tasks)
    for row in tasks.values():
        assert models[row["model"]]["task"] == row["name"], "the default model is one of the task"
    assert all(recipe["task"] in tasks and recipe["options"] for recipe in tw.list_recipes())
    assert all(row["summary"] and row["paper"] for row in models.values())


def test_explain_lists_concepts_and_rejects_unknown_names():
    names = [row["name"] for row in tw.explain()]
    assert "neuron" in names and len(names) == len(set(names))
    with pytest.raises(NotFoundError):
        tw.explain("nothing-of-that-name", "a.png")
    with pytest.raises(OptionError) as error:
        tw.explain("digits-lenet")
    assert error.value.value == 0


def test_type_checkers_see_every_option_of_train():
    written = typing.get_type_hints(TrainKeywords)
    expected = {}
    for options in (TrainOptions, *(task.TrainOptions for task in registry.get_tasks().values())):
        for name, hint in typing.get_type_hints(options).items():
            hint = functools.reduce(operator.or_, (str if member is Size else member for member in union_members(hint)))
            expected[name] = expected[name] | hint if name in expected else hint
    del expected["data"]  # an argument of its own
    assert written == expected
