"""Models, tasks and concepts are registered by importing their files, and found by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from thalweg import registry
from thalweg.errors import NotFoundError, OptionError
from thalweg.registry import ModelEntry


@pytest.fixture
def toy_source(monkeypatch):
    """Register the source 'toybox' for one test."""
    monkeypatch.setattr(registry, "_model_sources", dict(registry._model_sources))

    def find(name: str) -> ModelEntry:
        return ModelEntry(name, "classify", "a toy", lambda: name)

    registry.register_model_source("toybox", find)


def test_every_file_in_the_models_folder_is_registered():
    assert {"airbench", "convnet", "lenet", "mlp", "perceptron", "resnet18", "vgg16"} <= set(registry.get_models())
    assert {"classify", "edit", "forecast", "generate", "remember", "translate", "write"} <= set(registry.get_tasks())
    of_tasks = {}
    for task in registry.get_tasks():
        of_tasks |= registry.get_models(task)
    assert of_tasks == registry.get_models() and registry.get_models("knit") == {}


def test_an_entry_builds_its_model():
    model = registry.get_models()["mlp"](in_channels=1, num_classes=3, image_size=4, widths=[5])
    assert [tuple(param.shape) for param in model.parameters()] == [(5, 16), (5,), (3, 5), (3,)]


def test_models_and_tasks_are_found_by_name():
    assert registry.find_model("lenet").name == "lenet"
    assert registry.find_task("classify").name == "classify"


def test_unknown_names_are_rejected_with_the_nearest_ones():
    with pytest.raises(NotFoundError) as error:
        registry.find_model("lennet", "classify")
    assert error.value.value == "lennet" and error.value.cure.startswith("Did you mean 'lenet'")
    with pytest.raises(NotFoundError) as error:
        registry.find_model("mlp", "knit")
    assert error.value.value == "mlp" and error.value.allowed == []
    with pytest.raises(NotFoundError) as error:
        registry.find_task("clasify")
    assert error.value.value == "clasify" and error.value.allowed == list(registry.get_tasks())


def test_a_registered_source_finds_the_names_with_its_prefix(toy_source):
    assert registry.find_model("toybox:a:b")() == "toybox:a:b"


def test_a_prefix_without_a_source_is_rejected(toy_source):
    with pytest.raises(NotFoundError) as error:
        registry.find_model("toybx:a")
    assert error.value.value == "toybx:a" and "toybox" in error.value.allowed
    assert "'toybox'" in error.value.cure


def test_the_registry_imports_no_source_by_itself():
    """timm and torchvision are sources as soon as `weights.external_models` is imported, and not before."""
    code = (
        "import sys; from thalweg import registry; assert not registry._model_sources;"
        "assert not [name for name in sys.modules if name.startswith('thalweg.weights')];"
        "from thalweg.weights import external_models;"
        "assert sorted(registry._model_sources) == ['timm', 'torchvision']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_api_registers_timm_and_torchvision():
    code = "from thalweg import api, registry; assert {'timm', 'torchvision'} <= set(registry._model_sources)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_is_the_first_sentence_of_the_docstring():
    summaries = {name: entry.summary for name, entry in registry.get_models().items()}
    assert summaries["squeezenet1_1"] == "SqueezeNet 1.1: 5 MB of weights, for images of 17 pixels and up."
    assert all(summary.endswith(".") and "Raises" not in summary for summary in summaries.values())
    assert ModelEntry("a", "classify", "", lambda: None).summary == ""


def test_an_unknown_argument_is_rejected_with_the_nearest_name():
    with pytest.raises(OptionError) as error:
        registry.get_models()["lenet"](in_channels=1, num_classes=2, activaton="tanh")
    assert (error.value.option, error.value.value) == ("activaton", "tanh")
    assert "activation" in error.value.allowed and "'activation'" in error.value.cure


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        ("mlp", {"widths": 2.5}),
        ("mlp", {"dropout": "much"}),
        ("convnet", {"widths": "abc"}),
        ("convnet", {"widths": ["a", "b"]}),
        ("lenet", {"filters": 20}),
    ],
)
def test_a_value_that_a_model_cannot_use_is_an_option_error(model, wrong):
    with pytest.raises(OptionError) as error:
        registry.get_models()[model](in_channels=1, num_classes=2, image_size=28, **wrong)
    assert wrong.items() <= error.value.value.items()
    assert "thalweg models" in error.value.cure


def test_a_dash_in_the_name_of_a_model_counts_as_an_underscore():
    assert registry.find_model("seasonal-naive", "forecast").name == "seasonal_naive"
