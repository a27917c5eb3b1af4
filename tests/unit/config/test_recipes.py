"""Recipes are files that anyone may write, so every mistake in one is named with the file."""

from __future__ import annotations

import pytest

from thalweg import registry
from thalweg.config import options, recipes
from thalweg.data.images.augment import parse_augmentation as parse_augment
from thalweg.errors import NotFoundError, OptionError
from thalweg.training import plan

GOOD = """
about: a digit at a time
source: somewhere
minutes: 2
options:
  data: digits
  model: mlp
  arguments: {widths: [32]}
  epochs: 3
"""


def test_a_recipe_is_read_and_named_after_its_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    found = recipes.find_recipe(str(path))
    assert (found.name, found.task, found.about, found.minutes) == ("mine", "classify", "a digit at a time", 2)
    expected = {"data": "digits", "model": "mlp", "arguments": {"widths": [32]}, "epochs": 3}
    assert options.non_default(options.parse_options(found.options)) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("about: [", "not YAML"),
        ("just words", "not a mapping"),
        ("", "not a mapping"),
        ("optoins: {}", "no key 'optoins'"),
        ("options: [epochs]", "'options' is not a mapping"),
        ("options: {epoch: 3}", "no option 'epoch'"),
        ("options: {epochs: many}", "'many' is not a number"),
        ("options: {3: 4}", "no option '3'"),
        ("options: {arguments: none}", "--arguments"),
    ],
)
def test_a_mistake_is_named_with_the_file(text, told):
    with pytest.raises(OptionError, match="^mine.yaml") as raised:
        recipes.parse_recipe("mine.yaml", text)
    assert told in raised.value.message


def test_what_yaml_could_run_is_refused():
    with pytest.raises(OptionError, match="not YAML"):
        recipes.parse_recipe("mine.yaml", "about: !!python/object/apply:os.getcwd []")


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="no recipe file .*absent.yaml"):
        recipes.find_recipe(str(tmp_path / "absent.yaml"))
    (tmp_path / "bytes.yml").write_bytes(b"about: \xff\xfe")
    with pytest.raises(NotFoundError, match="bytes.yml"):
        recipes.find_recipe(str(tmp_path / "bytes.yml"))
    with pytest.raises(NotFoundError, match="no recipe named 'mnist-lennet'"):
        recipes.find_recipe("mnist-lennet")


def test_every_recipe_can_be_followed():
    for name, recipe in recipes.load_recipes().items():
        assert recipes.find_recipe(name) == recipe
        task = registry.find_task(recipe.task)
        made = options.parse_options(recipe.options)
        plan.validate_options(made)
        parse_augment(made.augment)
        network = registry.find_model(made.model or task.default_model, recipe.task)
        network(in_channels=1, num_classes=10, image_size=made.size or 28, **made.arguments)
        assert recipe.about and recipe.source and recipe.ours and recipe.minutes > 0, name


def test_what_is_given_goes_before_the_recipe(tmp_path):
    from thalweg.training.build import new_options

    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    task, made = new_options("classify", None, str(path), {"steps": 7, "arguments": {"activation": "tanh"}})
    assert (made.steps, made.epochs, made.arguments) == (7, None, {"widths": [32], "activation": "tanh"})
    assert new_options("classify", None, str(path), {"arguments": None, "lr": None})[1].arguments == {"widths": [32]}
