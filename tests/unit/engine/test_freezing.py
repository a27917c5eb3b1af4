"""Which parts of a network are trained, from when and how fast, held against what happens to the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg import registry
from thalweg.data.batches import InMemoryBatches
from thalweg.engine.config import TrainConfig
from thalweg.engine.freezing import FreezeSchedule, layer_groups, unfreeze_step
from thalweg.engine.trainer import Trainer
from thalweg.objectives.base import Loss
from thalweg.objectives.supervised import Supervised


class Tower(nn.Module):
    """Three blocks with batch statistics, and a last layer."""

    def __init__(self):
        super().__init__()
        blocks = [layer for _ in range(3) for layer in (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh())]
        self.features, self.head = nn.Sequential(*blocks), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.features(x))


def training(steps: int = 12, **recipe) -> Trainer:
    torch.manual_seed(0)

    def criterion(network, batch) -> Loss:
        return Loss(nn.functional.cross_entropy(network(batch["x"]), batch["y"]), len(batch["x"]))

    data = {"x": torch.randn(32, 4) + 3, "y": torch.randint(2, (32,))}
    settings = {"optimizer": "sgd", "schedule": "constant", "lr": 0.1, "report_every": 1, **recipe}
    return Trainer(Supervised(Tower(), criterion), InMemoryBatches(data, 8), TrainConfig(steps=steps, **settings))


def moved(trainer: Trainer, steps: int) -> list[int]:
    """The parts, counted from the picture on, that any of the next updates changed, statistics included."""
    network = trainer.objective.model
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for _, _ in zip(range(steps), trainer, strict=False):
        pass
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    names = [part.name for part in layer_groups(network)]
    owner = {**{f"features.{i}": i // 3 for i in range(9)}, "head": 3}
    found = {owner[k.rpartition(".")[0]] for k in changed}
    assert len(names) == 4
    return sorted(found)


def test_a_network_is_divided_from_the_picture_to_the_last_layer():
    assert [part.name for part in layer_groups(Tower())] == ["features.0", "features.3", "features.6", "head"]
    assert all(len(part.layers) == 2 for part in layer_groups(Tower())[:3])


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [("resnet18", 6, "fc"), ("vgg11", 11, "classifier.6"), ("squeezenet1_1", 10, "classifier.1"), ("lenet", 4, "head")],
)
def test_parts_of_known_networks(name, count, last):
    with torch.device("meta"):
        network = registry.find_model(name)(channels=3, classes=5)
    found = layer_groups(network)
    assert len(found) == count and found[-1].name == last
    inside = {id(w) for part in found for w in part.params}
    assert inside == {id(w) for w in network.parameters()}


def test_the_auxiliary_head_of_inception_goes_with_the_last_layer():
    with torch.device("meta"):
        network = registry.find_model("inception_v3")(channels=3, classes=5)
    *_, last = layer_groups(network)
    assert network.fc in last.layers and network.AuxLogits in last.layers


@pytest.mark.parametrize(("trained", "expected"), [(0, [3]), (1, [2, 3]), (2, [1, 2, 3]), (None, [0, 1, 2, 3])])
def test_only_the_parts_asked_for_are_trained(trained, expected):
    assert moved(training(trainable_groups=trained), 4) == expected


def test_frozen_parts_join_one_by_one():
    one = training(trainable_groups=0, unfreeze_interval=3)
    assert [moved(one, 3) for _ in range(4)] == [[3], [2, 3], [1, 2, 3], [0, 1, 2, 3]]


def test_a_run_that_is_resumed_in_the_middle_goes_on_with_the_same_parts():
    whole = training(trainable_groups=0, unfreeze_interval=3, optimizer="adam")
    list(whole)
    cut = training(trainable_groups=0, unfreeze_interval=3, optimizer="adam")
    for report in cut:
        if report.step == 5:
            break
    state = cut.state_dict()
    again = training(trainable_groups=0, unfreeze_interval=3, optimizer="adam")
    again.load_state_dict(state)
    list(again)
    for a, b in zip(whole.objective.state_dict().values(), again.objective.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_rates_fall_with_the_distance_from_the_last_layer():
    one = training(layer_decay=0.5)
    next(iter(one))
    rates = {id(w): group["lr"] for o in one.optimizers.values() for group in o.param_groups for w in group["params"]}
    for behind, part in enumerate(reversed(layer_groups(one.objective.model))):
        for weight in part.params:
            assert rates[id(weight)] == pytest.approx(0.1 * 0.5**behind)


def test_one_step_moves_each_part_by_its_share():
    plain, slowed = training(steps=1), training(steps=1, layer_decay=0.5)
    start = {k: v.clone() for k, v in plain.objective.model.state_dict().items()}
    list(plain), list(slowed)
    for behind, part in enumerate(reversed(layer_groups(plain.objective.model))):
        name = f"{part.name}.weight"
        whole = plain.objective.model.state_dict()[name] - start[name]
        shared = slowed.objective.model.state_dict()[name] - start[name]
        torch.testing.assert_close(shared, whole * 0.5**behind, atol=1e-6, rtol=1e-3)


def test_when_a_part_begins_is_a_function_of_the_recipe():
    recipe = TrainConfig(trainable_groups=1, unfreeze_interval=10)
    assert [unfreeze_step(behind, recipe) for behind in range(5)] == [0, 0, 10, 20, 30]
    assert [unfreeze_step(behind, TrainConfig(trainable_groups=1)) for behind in range(3)] == [0, 0, None]
    assert unfreeze_step(9, TrainConfig()) == 0


def test_filters_that_never_learn_stay_so_when_their_part_joins():
    network = Tower()
    network.features[0].weight.requires_grad_(False)
    finetuning = FreezeSchedule(network, TrainConfig(trainable_groups=0, unfreeze_interval=1))
    finetuning.set_trainable(100)
    assert not network.features[0].weight.requires_grad and network.features[0].bias.requires_grad
