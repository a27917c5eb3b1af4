"""The examples of CONTRIBUTING are files of the package: they are found, train, sample and explain."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.helpers.documents import ROOT, CodeBlock, read_blocks
from thalweg import api, registry
from thalweg.cli.main import invoke
from thalweg.config.options import TrainOptions
from thalweg.registry import find_task
from thalweg.tasks.base import Context, Task

PACKAGES = ("models", "models.classify", "tasks", "concepts")


def path_of(block: CodeBlock) -> str:
    """Return the path in the first line of an example, below src/thalweg; empty for other blocks."""
    match = re.match(r"(?:#|<!--) src/thalweg/(\S+)", block.text)
    return match[1] if match else ""


@pytest.fixture
def example_files(tmp_path, monkeypatch) -> dict[str, Path]:
    """The examples as files, in folders that belong to the package while the test runs."""
    files = {}
    for block in read_blocks(ROOT / "CONTRIBUTING.md"):
        name = path_of(block)
        if not name:
            continue
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        init = path.parent / "__init__.py"
        if path.suffix != ".yaml" and not init.exists():
            init.write_text('"""An example."""\n', encoding="utf-8")
        path.write_text(block.text.split("\n", 1)[1], encoding="utf-8")
        files[name] = path
    for fill in (registry.get_models, registry.get_tasks, registry.get_concepts):
        fill()  # what the package registers stays registered when the examples are gone
    before = set(sys.modules)
    for registered in ("_models", "_tasks", "_concepts"):
        monkeypatch.setattr(registry, registered, dict(getattr(registry, registered)))
    for package in PACKAGES:
        module = importlib.import_module(f"thalweg.{package}")
        folder = tmp_path / "package" / package.replace(".", "/")
        if folder.is_dir():
            monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
    monkeypatch.chdir(tmp_path)
    yield files
    for name in set(sys.modules) - before:
        if name.startswith("thalweg.") and str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_examples_are_found_by_the_registry_and_do_what_they_say(example_files, capsys):
    assert len(example_files) == 7
    assert "one_hidden" in registry.get_models("classify")
    assert "roll" in registry.get_tasks() and "mean" in registry.get_concepts()
    recipe = str(example_files["recipes/digits-hidden.yaml"])
    model = ["--model", "one_hidden", "--set", "width=64", "--steps", "2", "--no-report", "--out", "runs/hidden"]
    for words in (
        ["train", "classify", *model],
        ["train", "--recipe", recipe, "--steps", "2", "--no-report", "--out", "runs/recipe"],
        ["train", "roll", "--epochs", "20", "--out", "runs/rolls"],
        ["sample", "runs/rolls", "--count", "5"],
        ["explain", "mean", "--set", "values=1,2,12", "--json"],
    ):
        capsys.readouterr()
        assert invoke(words) == 0, words
    assert '"mean": 5.0' in capsys.readouterr().out
    assert api.load("runs/hidden").record.model_kwargs["width"] == 64
    assert api.load("runs/recipe").record.options["optimizer"] == "adam"


def test_the_example_task_learns_the_loaded_die(example_files):
    run = api.train("roll", epochs=60, lr=0.1, out="runs/rolls", report=False)
    faces = [int(sample.text) for sample in run.sample(count=200)]
    assert 0.35 < faces.count(6) / len(faces) < 0.65
    assert run.evaluate()["metrics"]["nats_per_roll"] < 1.65  # a fair die has ln 6 = 1.79


def test_the_example_recipe_names_a_model_and_options_that_exist(example_files):
    from thalweg.config.recipes import find_recipe

    recipe = find_recipe(str(example_files["recipes/digits-hidden.yaml"]))
    assert recipe.task == "classify" and recipe.options["model"] in registry.get_models()
    fields = set(TrainOptions.__dataclass_fields__) | set(find_task("classify").TrainOptions.__dataclass_fields__)
    assert set(recipe.options) <= fields


def test_the_contract_of_a_task_is_listed():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("## The contract") : text.index("## Working on it")]
    named = set(re.findall(r"`(\w+)`", table)) - {"base", "ln"}
    known = set(Task.__annotations__) | set(vars(Task)) | set(Context.__dataclass_fields__)
    assert named <= known, named - known
    assert Task.__abstractmethods__ <= named
