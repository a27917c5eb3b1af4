"""Recipes are files that anyone may write, so every mistake in one names the file and the key."""

from __future__ import annotations

import pytest

from thalweg import registry
from thalweg.config import recipes
from thalweg.config.options import parse_train_options, split_options, validate_options
from thalweg.config.parsing import parse_options
from thalweg.data.images.augment import parse_augmentation
from thalweg.errors import NotFoundError, OptionError
from thalweg.training.build import TrainingRequest, new_options

GOOD = """
task: classify
summary: a digit at a time
source: somewhere
minutes: 2
options:
  data: digits
  model: mlp
  model_kwargs: {widths: [32]}
  epochs: 3
  label_smoothing: 0.1
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_recipe_is_named_after_its_file(recipe_file):
    recipe = recipes.find_recipe(str(recipe_file))
    assert (recipe.name, recipe.task, recipe.summary, recipe.minutes) == ("mine", "classify", "a digit at a time", 2)
    expected = {"data": "digits", "model": "mlp", "model_kwargs": {"widths": [32]}, "epochs": 3, "label_smoothing": 0.1}
    assert recipe.options == expected


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("summary: [", None),
        ("just words", None),
        ("", None),
        ("summary: !!python/object/apply:os.getcwd []", None),
        ("optoins: {}", "optoins"),
        ("name: other", "name"),
        ("task: classify\noptions: [epochs]", "options"),
        ("task: classify\noptions: {epoch: 3}", "epoch"),
        ("task: classify\noptions: {batch: 3}", "batch"),
        ("task: classify\noptions: {epochs: many}", "epochs"),
        ("task: classify\noptions: {epochs: -1}", "epochs"),
        ("task: classify\noptions: {3: 4}", "3"),
        ("task: classify\noptions: {model_kwargs: none}", "model_kwargs"),
        ("task: classify\noptions: {label_smoothing: 1}", "label_smoothing"),
        ("task: clasify", "task"),
        ("summary: no task", "task"),
    ],
)
def test_mistakes_name_file_and_key(text, option, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError) as error:
        recipes.find_recipe(str(path))
    assert error.value.path == str(path) and error.value.option == option
    assert error.value.message.startswith(str(path))


def test_missing_recipes_are_not_found(tmp_path):
    (tmp_path / "bytes.yml").write_bytes(b"summary: \xff\xfe")
    for path in (tmp_path / "absent.yaml", tmp_path / "bytes.yml"):
        with pytest.raises(NotFoundError) as error:
            recipes.find_recipe(str(path))
        assert error.value.path == str(path)
    with pytest.raises(NotFoundError) as error:
        recipes.find_recipe("mnist-lennet")
    assert error.value.value == "mnist-lennet" and "'mnist-lenet'" in error.value.cure


@pytest.mark.parametrize("name", sorted(recipes.load_recipes()))
def test_every_built_in_recipe_can_be_trained(name):
    recipe = recipes.find_recipe(name)
    task = registry.find_task(recipe.task)
    common, own = split_options(recipe.options, task.TrainOptions)
    options = parse_train_options(common)
    task_options = parse_options(own, task.TrainOptions)
    validate_options(options)
    model = registry.find_model(options.model or task.default_model, recipe.task)
    if recipe.task == "classify":  # at the size of the recipe's images
        parse_augmentation(task_options.augment.replace("auto", "none"))
        kwargs = {"in_channels": 1, "num_classes": 10, "image_size": task_options.image_size or 28}
    else:
        kwargs = task().model_kwargs(task().data_spec(task().toy_dataset(), task.TrainOptions()))
    model(**kwargs, **options.model_kwargs)
    assert recipe.summary and recipe.source and recipe.our_result and recipe.minutes > 0


def resolve(path, **overrides):
    return new_options(TrainingRequest(None, recipe=str(path), overrides=overrides))


def test_options_that_are_given_replace_those_of_the_recipe(recipe_file):
    task, options, task_options = resolve(recipe_file, steps=7, model_kwargs={"activation": "tanh"}, label_smoothing=0)
    assert task.name == "classify" and task_options.label_smoothing == 0
    assert (options.steps, options.epochs) == (7, None), "one length replaces another"
    assert options.model_kwargs == {"widths": [32], "activation": "tanh"}
    assert resolve(recipe_file, model_kwargs=None, lr=None)[1].model_kwargs == {"widths": [32]}
