"""The laws of networks, held for every model of the registry from the day that its file arrives."""

from __future__ import annotations

import inspect
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import registry
from thalweg.config.options import Options
from thalweg.data.images.synthetic import make_bars
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import OptionError
from thalweg.layers.activations import ACTIVATIONS
from thalweg.tasks.classify import Classify, to_normalized_float

MODELS = registry.get_models("classify")
SIZES = (8, 16, 28, 32, 75)
CLASSES = 5
#: arguments that make another network of a model, each held to the same laws
VARIANTS = {"lenet": [{"variant": "1998"}], "convnet": [{"stem": 2, "depth": 2}], "mlp": [{"dropout": 0.2}]}
#: files of large networks -> those of them that are held to the costly laws, at the smallest size that they read
STAND_INS = {
    "vgg": ["vgg11_bn"],
    "resnet": ["resnet18", "resnet50"],
    "inception": ["inception_v3"],
    "squeezenet": ["squeezenet1_1"],
    "mobilenet": ["mobilenet_v3_small"],
}
#: arguments that make networks of a file small enough to be tested
LIGHTER = {"vgg": {"hidden": 64}}
#: parameters that the source of each network names, or that follow from the sizes it names; tests/unit/models has those
#: of the networks with published weights
PUBLISHED = [
    ("mlp", {}, 109_386),  # the talk: 784/128/64/10
    ("lenet", {}, 431_080),  # the talk: 20 and 50 filters of 5x5, 500 hidden neurons
    ("perceptron", {}, 7_850),  # one weight per pixel and class, one bias per class
]


def file_of(name: str) -> str:
    """The file that a model is in."""
    return inspect.getmodule(MODELS[name].build).__name__.rpartition(".")[2]


EVERY = [(name, more) for name in MODELS for more in [{}, *VARIANTS.get(name, [])]]
LARGE = [name for name in MODELS if file_of(name) in STAND_INS]
HELD = [(name, more) for name, more in EVERY if name in STAND_INS.get(file_of(name), [name])]
SMALL = [(name, more) for name, more in EVERY if name not in LARGE]


def over(networks: list[tuple[str, dict]]):
    return pytest.mark.parametrize(("name", "more"), networks, ids=[f"{name}{more or ''}" for name, more in networks])


every_model, models_held_to_the_costly_laws = over(EVERY), over(HELD)


def build(name: str, more: dict, channels: int = 1, size: int | None = None) -> nn.Module:
    """With weights of seed 0; of the size that most tests have."""
    torch.manual_seed(0)
    lighter = LIGHTER.get(file_of(name), {})
    return MODELS[name](in_channels=channels, num_classes=CLASSES, image_size=size or usual(name, more), **lighter, **more)


def shapes_only(name: str) -> torch.device:
    """Where the tensors of a large network are made without memory or arithmetic."""
    return torch.device("meta" if name in LARGE else "cpu")


def sizes_of(name: str, more: dict) -> list[int]:
    """The sizes, of those offered, that a small network says it can read; of a large one the least."""
    return _sizes_of(name, tuple(more.items()))


@cache
def _sizes_of(name: str, more: tuple) -> list[int]:
    readable = []
    for size in SIZES:
        try:
            with shapes_only(name):
                build(name, dict(more), size=size)
        except OptionError:
            continue
        readable.append(size)
        if name in LARGE:
            break
    return readable


def usual(name: str, more: dict) -> int:
    """A size to test at: a small network's own, the least of a large one."""
    return sizes_of(name, more)[0] if name in LARGE else MODELS[name].arguments["size"].default


def all_logits(answer: torch.Tensor | tuple) -> tuple:
    """Of a network that answers once, or more often while it is trained."""
    return answer if isinstance(answer, tuple) else (answer,)


@every_model
def test_a_model_reads_the_size_that_it_is_for_and_one_of_those_offered(name, more):
    assert sizes_of(name, more)
    size = MODELS[name].arguments["size"].default
    with shapes_only(name):
        network, x = build(name, more, channels=3, size=size), torch.zeros(2, 3, size, size)
        features = network.eval().features(x)
        assert len(features) == 2 and network.head(features).shape == (2, CLASSES)
    last = [layer for layer in network.head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))][-1]
    assert len(last.weight) == CLASSES


@models_held_to_the_costly_laws
@torch.no_grad()
def test_pictures_become_logits_through_features_and_head(name, more):
    for size in sizes_of(name, more):
        for channels in (3,) if name in LARGE else (1, 3):
            network = build(name, more, channels, size).eval()
            x = torch.randn(3, channels, size, size)
            y = network(x)
            assert y.shape == (3, CLASSES) and y.dtype == torch.float32 and bool(y.isfinite().all())
            assert torch.equal(y, network.head(network.features(x)))


@models_held_to_the_costly_laws
def test_gradients_reach_every_weight_that_is_trained(name, more):
    for size in sizes_of(name, more):
        network = build(name, more, size=size)
        answers = all_logits(network(torch.randn(16, 1, size, size)))
        sum(F.cross_entropy(logits, torch.arange(16) % CLASSES) for logits in answers).backward()
        trained = [(key, weight) for key, weight in network.named_parameters() if weight.requires_grad]
        assert trained
        for key, weight in trained:
            assert weight.grad is not None and float(weight.grad.abs().max()) > 0, f"{key} at {size}"


@models_held_to_the_costly_laws
@torch.no_grad()
def test_answers_depend_on_one_picture_only(name, more):
    """Whatever else is in the batch, and whatever was asked before."""
    network, size = build(name, more).eval(), usual(name, more)
    x = torch.randn(9, 1, size, size)
    together = network(x)
    close = {"atol": 3e-5, "rtol": 3e-5} if name in LARGE else {"atol": 1e-6, "rtol": 1e-6}  # depth adds up rounding
    torch.testing.assert_close(torch.cat([network(one[None]) for one in x]), together, **close)
    torch.testing.assert_close(network(x.flip(0)).flip(0), together, **close)
    assert torch.equal(network(x), together)


@models_held_to_the_costly_laws
@torch.no_grad()
def test_the_layout_in_memory_changes_no_answer(name, more):
    network, size = build(name, more, channels=3).eval(), usual(name, more)
    x = torch.randn(4, 3, size, size)
    plain = network(x)
    other = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-5)


@models_held_to_the_costly_laws
@torch.no_grad()
def test_weights_can_be_carried_to_another_network_of_the_kind(name, more):
    one, size = build(name, more).eval(), usual(name, more)
    other = MODELS[name](channels=1, classes=CLASSES, size=size, **LIGHTER.get(file_of(name), {}), **more).eval()
    x = torch.randn(2, 1, size, size)
    assert not torch.equal(one(x), other(x))
    assert other.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one(x), other(x))


@models_held_to_the_costly_laws
def test_equal_seeds_give_equal_networks(name, more):
    for a, b in zip(build(name, more).parameters(), build(name, more).parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [n for n, entry in MODELS.items() if "activation" in entry.arguments])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_chosen(name, activation):
    network = build(name, {"activation": activation}, size=28)
    y = network(torch.randn(4, 1, 28, 28))
    assert y.shape == (4, CLASSES) and bool(y.isfinite().all())
    y.square().mean().backward()
    assert network.head.weight.grad is not None
    plain = build(name, {"activation": "identity"}, size=28)
    assert activation == "identity" or not torch.equal(
        plain(torch.ones(1, 1, 28, 28)), network(torch.ones(1, 1, 28, 28))
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_is_and_whose(name):
    entry = MODELS[name]
    assert len(entry.about) > 20 and entry.about.endswith(".")
    assert any(sign in entry.paper for sign in ("doi:", "arXiv:")), entry.paper
    about = inspect.getdoc(inspect.getmodule(entry.build))
    assert about and any(sign in about for sign in ("doi:", "arXiv:"))
    assert list(entry.arguments)[:3] == ["channels", "classes", "size"]
    assert all(entry.arguments[key].default is inspect.Parameter.empty for key in ("channels", "classes"))
    assert all(one.default is not inspect.Parameter.empty for one in list(entry.arguments.values())[2:])


@pytest.mark.parametrize(("name", "more", "parameters"), PUBLISHED)
def test_parameters_are_as_many_as_published(name, more, parameters):
    network = MODELS[name](in_channels=1, num_classes=10, image_size=28, **more)
    assert sum(w.numel() for w in network.parameters()) == parameters


@cache
def toy(size: int):
    return make_bars(count=480, size=size)


@over(SMALL)
def test_a_network_learns_to_tell_bars_apart(name, more):
    data, task = toy(16 if 16 in sizes_of(name, more) else 28), Classify()
    facts = task.facts(data)
    torch.manual_seed(0)
    network = MODELS[name](**task.arguments(facts), **more)
    task.initialise(network, data, facts, "cpu")
    objective, stream = task.objective(network, facts, Options()), task.stream(data.train, 32, 0, 0, 1, "cpu")
    recipe = TrainConfig(steps=100, lr=3e-3, optimizer="adam", schedule="one-cycle", warmup_fraction=0.25)
    for _ in Trainer(objective, stream, recipe, task.augment(facts, Options())):
        pass
    network.eval()
    answers = network(to_normalized_float(torch.from_numpy(data.test.images.copy()), facts)).argmax(1)
    assert float((answers == torch.from_numpy(data.test.labels)).float().mean()) > 0.9
