"""Features of images, and what they say of generated ones: copies, held-out images, classes, repeated images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from thalweg.data.base import DataRequest
from thalweg.data.images.square_images import SquareImageDataset, load_square_images
from thalweg.errors import OptionError
from thalweg.inference.load import load
from thalweg.tasks import generate_metrics
from thalweg.tasks.base import Context
from thalweg.tasks.generate import Generate, GenerateSpec
from thalweg.tasks.generate_metrics import (
    METRICS,
    FeatureNetwork,
    TrainingNeighbors,
    compare_images,
    load_feature_network,
    measure_agreement,
    measure_memorization,
    summarize_classes,
)

CPU = Context(torch.device("cpu"), load=load)
DATA = Generate().toy_dataset()


@pytest.fixture(scope="module")
def digits() -> SquareImageDataset:
    return load_square_images(DataRequest("digits"))


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    result = load_feature_network(CPU, 1)
    assert result is not None
    return result


# --- features ---------------------------------------------------------------------------------------------------------


def test_real_features_are_computed_once(monkeypatch):
    calls = []
    network = load_feature_network(CPU, 1)
    extract = FeatureNetwork.extract
    monkeypatch.setattr(FeatureNetwork, "extract", lambda self, images: calls.append(1) or extract(self, images))
    images = DATA.train.images[40:60]
    first = network.extract_cached(images)
    assert network.extract_cached(images.copy()) is first and len(calls) == 1
    network.extract_cached(images[::-1])
    assert len(calls) == 2
    np.testing.assert_allclose(first, extract(network, images))


def test_features_are_what_the_last_layer_of_the_classifier_reads():
    network = load_feature_network(CPU, 1)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    logits = network.model.head(torch.from_numpy(network.extract(images)))
    trained = load("digits-lenet")
    probabilities = np.stack([p.probabilities for p in trained.predict(list(images[..., 0]), raw=True)])
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), probabilities, atol=1e-5)


def test_gray_and_color_images_are_read_by_either_kind_of_network(network):
    gray = DATA.train.images[:5]
    color = gray.repeat(3, axis=3)
    np.testing.assert_allclose(network.extract(color), network.extract(gray), atol=1e-4)
    reads_color = load_feature_network(CPU, 3)
    np.testing.assert_array_equal(reads_color.extract(gray), reads_color.extract(color))


def test_a_network_is_chosen_by_name_and_must_be_a_classifier():
    assert load_feature_network(CPU, 1, "digits-mlp").name == "digits-mlp"
    generator = SimpleNamespace(model=torch.nn.Flatten(), spec=GenerateSpec(1, 16), task=Generate())
    with pytest.raises(OptionError) as error:
        load_feature_network(Context(torch.device("cpu"), load=lambda name: generator), 1, "runs/digits")
    assert error.value.option == "feature_network" and error.value.value == "runs/digits"
    assert load_feature_network(Context(torch.device("cpu")), 1) is None


# --- what they say ----------------------------------------------------------------------------------------------------


def test_repeated_images_recall_nothing_and_cover_little(network, digits):
    images = digits.train.images[np.random.default_rng(0).permutation(len(digits.train))]
    real = images[:400]
    others = compare_images(network, real, images[400:800])
    repeated = compare_images(network, real, images[400:408].repeat(50, axis=0))
    assert list(others) == [metric.name for metric in METRICS]
    assert repeated["recall"] < 0.02 and repeated["coverage"] < 0.2 < 0.7 < others["coverage"]
    assert others["recall"] > 0.7 and 0.7 < others["density"] < 1.3
    assert repeated["kernel_distance"] > 10 * abs(others["kernel_distance"])


def test_few_images_have_fewer_metrics(network, digits):
    for count, expected in ((1, 0), (2, 2), (4, 4), (6, 6)):
        values = compare_images(network, digits.train.images[:count], digits.train.images[-count:])
        assert sum(value is not None for value in values.values()) == expected


@pytest.mark.parametrize("has_network", [True, False])
def test_copies_are_memorized_and_held_out_images_are_not(network, digits, has_network):
    train = digits.train.images[:600]
    neighbors = TrainingNeighbors.of(train, network if has_network else None)
    test = digits.train.take(np.arange(600, 900))
    copies = measure_memorization(neighbors, train[:200], test)
    assert copies["space"] == ("features of digits-lenet" if has_network else "pixels")
    assert copies["memorization"] == 1 and copies["distance_generated"] == 0 < copies["distance_test"]
    held_out = measure_memorization(neighbors, digits.train.images[900:1200], test)
    assert held_out["memorization"] == pytest.approx(0.5, abs=0.08)
    noise = np.random.default_rng(0).integers(0, 256, (50, *train.shape[1:]), np.uint8)
    assert measure_memorization(neighbors, noise, test)["memorization"] < 0.05


def test_many_training_images_are_compared_by_pixels(network, digits, monkeypatch):
    monkeypatch.setattr(generate_metrics, "MAX_DESCRIBED", 100)
    assert TrainingNeighbors.of(digits.train.images[:100], network).network is network
    neighbors = TrainingNeighbors.of(digits.train.images[:101], network)
    assert neighbors.space == "pixels"
    rows, distances = neighbors.find(np.minimum(digits.train.images[[7, 90]], 254))
    assert rows.tolist() == [7, 90] and (distances < 0.05).all()


def test_classes_and_agreement_are_those_of_the_classifier():
    model = torch.nn.Module()
    model.features = torch.nn.Flatten()
    model.head = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.eye_(model.head.weight)
    network = FeatureNetwork("brighter", model, SimpleNamespace(classes=["left", "right"]))
    left, right = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    features = np.stack([left, left, left, right])
    classes = summarize_classes(network, np.stack([right]), features)
    assert classes["generated"] == {"left": 0.75, "right": 0.25} and classes["real"] == {"left": 0, "right": 1}
    assert (classes["smallest"], classes["largest"], classes["classifier"]) == (0.25, 0.75, "brighter")
    labels = np.array([1, 1, 0, 0])
    assert measure_agreement(network, features, labels, ["right", "left"]) == 0.75
    assert measure_agreement(network, features, labels, ["left", "up"]) is None
    assert measure_agreement(network, features, labels, []) is None
