"""Laws that hold for every registered model from the day on which its file arrives."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg import registry
from thalweg.config.options import TrainOptions
from thalweg.data.images.dataset import ImageDataset
from thalweg.data.images.input_spec import to_normalized_float
from thalweg.data.images.synthetic import make_bars
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.config.size import PixelSize
from thalweg.errors import OptionError
from thalweg.layers.activations import ACTIVATIONS
from thalweg.tasks.base import Context
from thalweg.tasks.classify import Classify

MODELS = registry.get_models("classify")
SIZES = (8, 16, 28, 32, 75)
NUM_CLASSES = 5
#: arguments that select other architectures of a model, each held to the same laws
VARIANTS = {"lenet": [{"variant": "1998"}], "convnet": [{"stem": 2, "depth": 2}], "mlp": [{"dropout": 0.2}]}
#: files of large models -> those held to the costly laws, at the smallest size that they read
REPRESENTATIVES = {
    "vgg": ["vgg11_bn"],
    "resnet": ["resnet18", "resnet50"],
    "inception_v3": ["inception_v3"],
    "squeezenet": ["squeezenet1_1"],
    "mobilenet_v3": ["mobilenet_v3_small"],
}
#: arguments that make the models of a file small enough for tests
SMALLER = {"vgg": {"hidden": 64}}
#: parameters that the source states, or that follow from the sizes it states; tests/unit/models has those of the models
#: with published weights
PARAMETERS = [
    ("mlp", 109_386),  # the talk: 784/128/64/10
    ("lenet", 431_080),  # the talk: 20 and 50 filters of 5x5, 500 hidden neurons
    ("perceptron", 7_850),  # one weight per pixel and class, one bias per class
]


class Case(NamedTuple):
    """A model and arguments that select one of its architectures."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}{self.arguments or ''}"

    @property
    def file(self) -> str:
        """The file of the model, without suffix."""
        return get_module(self.name).__name__.rpartition(".")[2]

    @property
    def is_large(self) -> bool:
        """Whether the model is too large for all sizes and all laws."""
        return self.file in REPRESENTATIVES

    @property
    def is_representative(self) -> bool:
        """Whether the model is held to the costly laws."""
        return self.name in REPRESENTATIVES.get(self.file, [self.name])

    def build(self, in_channels: int = 1, image_size: PixelSize | None = None) -> nn.Module:
        """Build the model with the weights of seed 0, by default for the size of most tests."""
        torch.manual_seed(0)
        return self.build_unseeded(in_channels, image_size or self.size)

    def build_unseeded(self, in_channels: int, image_size: PixelSize) -> nn.Module:
        """Build the model with the next random weights."""
        arguments = {**SMALLER.get(self.file, {}), **self.arguments}
        return MODELS[self.name](in_channels=in_channels, num_classes=NUM_CLASSES, image_size=image_size, **arguments)

    @property
    def shape_device(self) -> torch.device:
        """A device on which shapes can be tested; that of large models needs neither memory nor arithmetic."""
        return torch.device("meta" if self.is_large else "cpu")

    @property
    def default_size(self) -> int:
        """The image size that the model is made for."""
        return MODELS[self.name].parameters["image_size"].default

    @property
    def size(self) -> int:
        """The image size of most tests: the smallest one of a large model, the default of a small one."""
        return self.sizes[0] if self.is_large else self.default_size

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes out of SIZES that the model accepts; of a large model only the smallest."""
        return find_sizes(self.name, tuple(self.arguments.items()))


def get_module(name: str) -> Any:
    """Return the module that defines a model."""
    return inspect.getmodule(MODELS[name].builder)


@cache
def find_sizes(name: str, arguments: tuple[tuple[str, Any], ...]) -> tuple[int, ...]:
    case = Case(name, dict(arguments))
    sizes: list[int] = []
    for size in SIZES:
        try:
            with case.shape_device:
                case.build(image_size=size)
        except OptionError:
            continue
        sizes.append(size)
        if case.is_large:
            break
    return tuple(sizes)


CASES = [Case(name, arguments) for name in MODELS for arguments in [{}, *VARIANTS.get(name, [])]]
every_model = pytest.mark.parametrize("case", CASES, ids=str)
every_representative = pytest.mark.parametrize("case", [case for case in CASES if case.is_representative], ids=str)
every_small_model = pytest.mark.parametrize("case", [case for case in CASES if not case.is_large], ids=str)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread: the number of threads changes the order of sums, and with it the rounding of every output."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def list_logits(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return all logits of a model, which may have auxiliary ones in training."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


@every_model
def test_a_model_reads_its_default_size_and_one_of_the_test_sizes(case):
    assert case.sizes
    size = case.default_size
    with case.shape_device:
        model = case.build(in_channels=3, image_size=size).eval()
        features = model.features(torch.zeros(2, 3, size, size))
        assert len(features) == 2 and model.head(features).shape == (2, NUM_CLASSES)
    layers = [layer for layer in model.head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    assert len(layers[-1].weight) == NUM_CLASSES


@every_model
def test_images_need_not_be_squares(case):
    for size in ((case.size, case.size + 4), (case.size + 4, case.size)):
        with case.shape_device:
            model = case.build(in_channels=3, image_size=size).eval()
            assert model(torch.zeros(2, 3, *size)).shape == (2, NUM_CLASSES)


@every_representative
@torch.no_grad()
def test_logits_are_the_head_of_the_features(case):
    for size in case.sizes:
        for in_channels in (3,) if case.is_large else (1, 3):
            model = case.build(in_channels, size).eval()
            x = torch.randn(3, in_channels, size, size)
            logits = model(x)
            assert logits.shape == (3, NUM_CLASSES) and logits.dtype == torch.float32
            assert bool(logits.isfinite().all())
            assert torch.equal(logits, model.head(model.features(x)))


@every_representative
def test_every_trainable_parameter_has_a_gradient(case):
    for size in case.sizes:
        model = case.build(image_size=size)
        labels = torch.arange(16) % NUM_CLASSES
        losses = [F.cross_entropy(logits, labels) for logits in list_logits(model(torch.randn(16, 1, size, size)))]
        sum(losses).backward()
        trainable = [(key, param) for key, param in model.named_parameters() if param.requires_grad]
        assert trainable
        for key, param in trainable:
            assert param.grad is not None and float(param.grad.abs().max()) > 0, f"{key} at {size}"


@every_representative
@torch.no_grad()
def test_logits_depend_on_one_image_only(case):
    """They depend neither on the other images of the batch nor on earlier batches."""
    model = case.build().eval()
    x = torch.randn(9, 1, case.size, case.size)
    logits = model(x)
    # float32 sums in another order for another batch size, and depth accumulates the rounding
    tolerance = 3e-5 if case.is_large else 1e-6
    single = torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(single, logits, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(model(x.flip(0)).flip(0), logits, atol=tolerance, rtol=tolerance)
    assert torch.equal(model(x), logits)


@every_representative
@torch.no_grad()
def test_the_memory_format_changes_no_logits(case):
    model = case.build(in_channels=3).eval()
    x = torch.randn(4, 3, case.size, case.size)
    expected = model(x)
    logits = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@every_representative
@torch.no_grad()
def test_weights_can_be_loaded_into_another_instance(case):
    model = case.build().eval()
    other = case.build_unseeded(1, case.size).eval()
    x = torch.randn(2, 1, case.size, case.size)
    assert not torch.equal(model(x), other(x))
    assert other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(model(x), other(x))


@every_representative
def test_equal_seeds_give_equal_weights(case):
    for first, second in zip(case.build().parameters(), case.build().parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if "activation" in entry.parameters])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_chosen(name, activation):
    model = Case(name, {"activation": activation}).build(image_size=28)
    logits = model(torch.randn(4, 1, 28, 28))
    assert logits.shape == (4, NUM_CLASSES) and bool(logits.isfinite().all())
    logits.square().mean().backward()
    assert model.head.weight.grad is not None
    linear = Case(name, {"activation": "identity"}).build(image_size=28)
    ones = torch.ones(1, 1, 28, 28)
    assert torch.equal(linear(ones), model(ones)) == (activation == "identity")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_described_and_cites_its_source(name):
    entry = MODELS[name]
    assert len(entry.summary) > 20 and entry.summary.endswith(".")
    for text in (entry.paper, inspect.getdoc(get_module(name)) or ""):
        assert "doi:" in text or "arXiv:" in text
    first, second, *rest = entry.parameters.values()
    assert list(entry.parameters)[:3] == ["in_channels", "num_classes", "image_size"]
    assert first.default is second.default is inspect.Parameter.empty
    assert all(parameter.default is not inspect.Parameter.empty for parameter in rest)


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS)
def test_the_number_of_parameters_matches_the_source(name, parameters):
    model = MODELS[name](in_channels=1, num_classes=10, image_size=28)
    assert sum(param.numel() for param in model.parameters()) == parameters


@cache
def bars(size: int) -> ImageDataset:
    return make_bars(count=480, size=size)


@every_small_model
def test_a_model_learns_to_classify_bars(case):
    data = bars(16 if 16 in case.sizes else 28)
    task = Classify()
    options = task.TrainOptions()
    spec = task.data_spec(data, options)
    context = Context(torch.device("cpu"), options=TrainOptions())
    torch.manual_seed(0)
    model = MODELS[case.name](**task.model_kwargs(spec), **case.arguments)
    task.init_from_data(model, data, spec, context)
    setup = task.setup(model, data, spec, options, 32, context)
    config = TrainConfig(steps=100, lr=3e-3, optimizer="adam", schedule="one-cycle", warmup_fraction=0.25)
    for _ in Trainer(setup.objective, setup.batches, config, setup.transform):
        pass
    model.eval()
    predictions = model(to_normalized_float(torch.from_numpy(data.test.images.copy()), spec)).argmax(1)
    assert float((predictions == torch.from_numpy(data.test.labels)).float().mean()) > 0.9
