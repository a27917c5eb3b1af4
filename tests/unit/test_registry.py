"""What there is, found by name."""

from __future__ import annotations

import pytest

import thalweg
from thalweg import registry
from thalweg.errors import NotFoundError, OptionError


def test_every_file_of_the_folder_of_models_is_found():
    assert {"airbench", "convnet", "lenet", "mlp", "perceptron", "resnet18", "vgg16"} <= set(registry.get_models())
    assert registry.get_models("classify") == registry.get_models() and registry.get_models("knit") == {}
    assert list(registry.get_tasks()) == ["classify"]


def test_a_model_is_built_by_name():
    built = registry.get_models()["mlp"](in_channels=1, num_classes=3, image_size=4, widths=[5])
    assert [tuple(w.shape) for w in built.parameters()] == [(5, 16), (5,), (3, 5), (3,)]


def test_a_name_that_nothing_has_is_answered_with_the_nearest():
    with pytest.raises(NotFoundError, match="no model named 'lennet'") as raised:
        registry.find_model("lennet", "classify")
    assert raised.value.cure.startswith("Did you mean 'lenet'")
    with pytest.raises(NotFoundError, match="no model named 'mlp'"):
        registry.find_model("mlp", "knit")
    with pytest.raises(NotFoundError, match="no task named 'clasify'") as raised:
        registry.find_task("clasify")
    assert "'classify'" in raised.value.cure


def test_of_a_model_its_first_sentence_is_told():
    about = {name: entry.about for name, entry in registry.get_models().items()}
    assert about["squeezenet1_1"] == "SqueezeNet 1.1: 5 MB of weights, for pictures of 17 pixels and up."
    assert all(one.endswith(".") and "Raises" not in one for one in about.values())
    assert registry.ModelEntry("a", "classify", "", lambda: None).about == ""


def test_found_by_name():
    assert registry.find_model("lenet").name == "lenet"
    assert registry.find_task("classify").name == "classify"


def test_an_argument_that_a_model_does_not_have_is_named():
    with pytest.raises(OptionError, match="'lenet' has no argument 'activaton'") as raised:
        registry.get_models()["lenet"](in_channels=1, num_classes=2, activaton="tanh")
    assert "'activation'" in raised.value.cure


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        ("mlp", {"widths": 2.5}),
        ("mlp", {"dropout": "much"}),
        ("convnet", {"widths": "abc"}),
        ("lenet", {"filters": 20}),
    ],
)
def test_a_value_that_a_model_cannot_use_is_an_option_error(model, wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(OptionError, match=model) as raised:
        registry.get_models()[model](in_channels=1, num_classes=2, image_size=28, **wrong)
    assert f"{name}={value}" in raised.value.message


def test_listings_are_folders_and_lists_at_once():
    for listing, one in ((thalweg.models, "lenet"), (thalweg.tasks, "classify")):
        assert one in listing and "unknown" not in listing
        assert list(listing) == listing() == sorted(listing.names()) and len(listing) == len(list(listing))
        assert listing[one].name == one
    assert thalweg.models.classify.lenet.C3_CONNECTIONS and callable(thalweg.models["lenet"])
    assert len(thalweg.recipes) == len(list(thalweg.recipes))


def test_what_a_model_cannot_be_built_with_has_a_cure():
    with pytest.raises(OptionError, match="cannot be built with .*widths=") as error:
        registry.find_model("convnet")(in_channels=1, num_classes=2, widths=["a", "b"])
    assert "thalweg models" in error.value.cure
