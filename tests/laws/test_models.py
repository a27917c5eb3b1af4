"""The laws of networks, held for every model of the registry from the day that its file arrives."""

from __future__ import annotations

import inspect
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import registry
from thalweg.data.toy import bars
from thalweg.errors import OptionError
from thalweg.layers.activations import ACTIVATIONS
from thalweg.options import Options
from thalweg.registry import ModelEntry
from thalweg.tasks.classify import Classify, normalised
from thalweg.train.recipe import Recipe
from thalweg.train.trainer import Trainer

MODELS = registry.models("classify")
SIZES = (8, 16, 28, 32)
CLASSES = 5
#: arguments that make another network of a model, each held to the same laws
VARIANTS = {"lenet": [{"variant": "1998"}], "convnet": [{"stem": 2, "depth": 2}], "mlp": [{"dropout": 0.2}]}
#: parameters that the source of each network names, or that follow from the sizes it names
PUBLISHED = [
    ("mlp", {}, 109_386),  # the talk: 784/128/64/10
    ("lenet", {}, 431_080),  # the talk: 20 and 50 filters of 5x5, 500 hidden neurons
    ("perceptron", {}, 7_850),  # one weight per pixel and class, one bias per class
]

EVERY = [(name, more) for name in MODELS for more in [{}, *VARIANTS.get(name, [])]]
every_model = pytest.mark.parametrize(("name", "more"), EVERY, ids=[f"{n}{m or ''}" for n, m in EVERY])


def sizes_of(entry: ModelEntry, more: dict) -> list[int]:
    """The sizes that a model says it can read."""
    readable = []
    for size in SIZES:
        try:
            entry(channels=1, classes=2, size=size, **more)
        except OptionError:
            continue
        readable.append(size)
    return readable


def build(name: str, more: dict, channels: int = 1, size: int = 28) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name](channels=channels, classes=CLASSES, size=size, **more)


@every_model
def test_pictures_become_logits_through_features_and_head(name, more):
    sizes = sizes_of(MODELS[name], more)
    assert 28 in sizes
    for size in sizes:
        for channels in (1, 3):
            network = build(name, more, channels, size).eval()
            x = torch.randn(3, channels, size, size)
            y = network(x)
            assert y.shape == (3, CLASSES) and y.dtype == torch.float32 and bool(y.isfinite().all())
            assert torch.equal(y, network.head(network.features(x)))
            assert network.head.out_features == CLASSES


@every_model
def test_gradients_reach_every_weight(name, more):
    for size in sizes_of(MODELS[name], more):
        network = build(name, more, size=size)
        loss = F.cross_entropy(network(torch.randn(16, 1, size, size)), torch.arange(16) % CLASSES)
        loss.backward()
        for key, weight in network.named_parameters():
            assert weight.grad is not None and float(weight.grad.abs().max()) > 0, f"{key} at {size}"


@every_model
def test_answers_depend_on_one_picture_only(name, more):
    """Whatever else is in the batch, and whatever was asked before."""
    network = build(name, more).eval()
    x = torch.randn(9, 1, 28, 28)
    together = network(x)
    torch.testing.assert_close(torch.cat([network(one[None]) for one in x]), together, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(network(x.flip(0)).flip(0), together, atol=1e-6, rtol=1e-6)
    assert torch.equal(network(x), together)


@every_model
def test_the_layout_in_memory_changes_no_answer(name, more):
    network = build(name, more, channels=3).eval()
    x = torch.randn(4, 3, 28, 28)
    plain = network(x)
    other = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-5)


@every_model
def test_weights_can_be_carried_to_another_network_of_the_kind(name, more):
    one, other = build(name, more).eval(), MODELS[name](channels=1, classes=CLASSES, size=28, **more).eval()
    x = torch.randn(2, 1, 28, 28)
    assert not torch.equal(one(x), other(x))
    assert other.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one(x), other(x))


@every_model
def test_equal_seeds_give_equal_networks(name, more):
    for a, b in zip(build(name, more).parameters(), build(name, more).parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [n for n, entry in MODELS.items() if "activation" in entry.arguments])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_chosen(name, activation):
    network = build(name, {"activation": activation})
    y = network(torch.randn(4, 1, 28, 28))
    assert y.shape == (4, CLASSES) and bool(y.isfinite().all())
    y.square().mean().backward()
    assert network.head.weight.grad is not None
    plain = build(name, {"activation": "identity"})
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
    assert entry.arguments["size"].default == 28


@pytest.mark.parametrize(("name", "more", "parameters"), PUBLISHED)
def test_parameters_are_as_many_as_published(name, more, parameters):
    network = MODELS[name](channels=1, classes=10, size=28, **more)
    assert sum(w.numel() for w in network.parameters()) == parameters


@cache
def toy(size: int):
    return bars(count=480, size=size)


@every_model
def test_a_network_learns_to_tell_bars_apart(name, more):
    data, task = toy(16 if 16 in sizes_of(MODELS[name], more) else 28), Classify()
    facts = task.facts(data)
    torch.manual_seed(0)
    network = MODELS[name](**task.arguments(facts), **more)
    objective, stream = task.objective(network, facts, Options()), task.stream(data.train, 32, 0, 0, 1, "cpu")
    recipe = Recipe(steps=100, lr=3e-3, optimizer="adam", schedule="one-cycle", warmup=0.25)
    for _ in Trainer(objective, stream, recipe, task.augment(facts, Options())):
        pass
    network.eval()
    answers = network(normalised(torch.from_numpy(data.test.images.copy()), facts)).argmax(1)
    assert float((answers == torch.from_numpy(data.test.labels)).float().mean()) > 0.9
