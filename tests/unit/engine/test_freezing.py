"""Which layer groups are trained, from which step and how fast, measured on the parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from thalweg import registry
from thalweg.data.batches import InMemoryBatches
from thalweg.engine.config import TrainConfig
from thalweg.engine.freezing import FreezeSchedule, freeze, layer_groups, unfreeze_step
from thalweg.engine.trainer import Trainer
from thalweg.objectives.base import Batch, Loss
from thalweg.objectives.supervised import Supervised


class ThreeBlocks(nn.Module):
    """Three blocks with batch statistics, and a last layer."""

    def __init__(self):
        super().__init__()
        layers = []
        for _ in range(3):
            layers += [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.features(x))


def make_trainer(steps: int = 12, **config) -> Trainer:
    torch.manual_seed(0)

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        return Loss(nn.functional.cross_entropy(model(batch["x"]), batch["y"]), len(batch["x"]))

    tensors = {"x": torch.randn(32, 4) + 3, "y": torch.randint(2, (32,))}
    settings = {"optimizer": "sgd", "schedule": "constant", "lr": 0.1, "report_every": 1, **config}
    objective = Supervised(ThreeBlocks(), criterion)
    return Trainer(objective, InMemoryBatches(tensors, 8), TrainConfig(steps=steps, **settings))


def changed_groups(trainer: Trainer, steps: int) -> list[int]:
    """Return the indices of the groups that the next steps change, batch statistics included."""
    model = trainer.objective.model
    before = copy.deepcopy(model.state_dict())
    for _, _ in zip(range(steps), trainer, strict=False):
        pass
    group_of_layer = {"head": 3}
    for index in range(9):
        group_of_layer[f"features.{index}"] = index // 3
    changed = set()
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            changed.add(group_of_layer[name.rpartition(".")[0]])
    return sorted(changed)


def test_freezing_holds_for_parameters_and_batch_statistics_in_every_mode():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    freeze(model[:2])
    before = copy.deepcopy(model.state_dict())
    for module in (model, copy.deepcopy(model)):
        module.train()
        module(torch.randn(8, 3)).sum().backward()
        assert not module[1].training and module[2].training
        assert all(param.grad is None for param in module[:2].parameters()) and module[2].weight.grad is not None
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])


def test_groups_run_from_the_input_to_the_last_layer():
    groups = layer_groups(ThreeBlocks())
    assert [group.name for group in groups] == ["features.0", "features.3", "features.6", "head"]
    assert all(len(group.layers) == 2 for group in groups[:3])


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [("resnet18", 6, "fc"), ("vgg11", 11, "classifier.6"), ("squeezenet1_1", 10, "classifier.1"), ("lenet", 4, "head")],
)
def test_groups_of_registered_models_hold_every_parameter(name, count, last):
    with torch.device("meta"):
        model = registry.find_model(name)(in_channels=3, num_classes=5)
    groups = layer_groups(model)
    assert len(groups) == count and groups[-1].name == last
    grouped = {id(param) for group in groups for param in group.params}
    assert grouped == {id(param) for param in model.parameters()}


def test_the_auxiliary_head_of_inception_belongs_to_the_last_group():
    with torch.device("meta"):
        model = registry.find_model("inception_v3")(in_channels=3, num_classes=5)
    *_, last = layer_groups(model)
    assert model.fc in last.layers and model.AuxLogits in last.layers


@pytest.mark.parametrize(
    ("trainable_groups", "expected"), [(0, [3]), (1, [2, 3]), (2, [1, 2, 3]), (None, [0, 1, 2, 3])]
)
def test_only_the_requested_groups_are_trained(trainable_groups, expected):
    assert changed_groups(make_trainer(trainable_groups=trainable_groups), 4) == expected


def test_gradual_unfreezing_adds_one_group_after_the_other():
    trainer = make_trainer(trainable_groups=0, unfreeze_interval=3)
    assert [changed_groups(trainer, 3) for _ in range(4)] == [[3], [2, 3], [1, 2, 3], [0, 1, 2, 3]]


def test_resuming_continues_with_the_same_groups():
    settings = {"trainable_groups": 0, "unfreeze_interval": 3, "optimizer": "adam"}
    full = make_trainer(**settings)
    list(full)
    first = make_trainer(**settings)
    for report in first:
        if report.step == 5:
            break
    second = make_trainer(**settings)
    second.load_state_dict(first.state_dict())
    list(second)
    for a, b in zip(full.objective.state_dict().values(), second.objective.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_learning_rates_decay_with_the_distance_from_the_last_layer():
    trainer = make_trainer(layer_decay=0.5)
    next(iter(trainer))
    lrs = {}
    for group in trainer.param_groups:
        for param in group["params"]:
            lrs[id(param)] = group["lr"]
    for distance, group in enumerate(reversed(layer_groups(trainer.objective.model))):
        for param in group.params:
            assert lrs[id(param)] == pytest.approx(0.1 * 0.5**distance)


def test_one_step_is_scaled_by_the_layer_decay():
    plain = make_trainer(steps=1)
    decayed = make_trainer(steps=1, layer_decay=0.5)
    before = copy.deepcopy(plain.objective.model.state_dict())
    list(plain)
    list(decayed)
    for distance, group in enumerate(reversed(layer_groups(plain.objective.model))):
        name = f"{group.name}.weight"
        full_step = plain.objective.model.state_dict()[name] - before[name]
        decayed_step = decayed.objective.model.state_dict()[name] - before[name]
        torch.testing.assert_close(decayed_step, full_step * 0.5**distance, atol=1e-6, rtol=1e-3)


def test_the_unfreeze_step_is_a_function_of_the_config():
    config = TrainConfig(trainable_groups=1, unfreeze_interval=10)
    assert [unfreeze_step(distance, config) for distance in range(5)] == [0, 0, 10, 20, 30]
    assert [unfreeze_step(distance, TrainConfig(trainable_groups=1)) for distance in range(3)] == [0, 0, None]
    assert unfreeze_step(9, TrainConfig()) == 0


def test_parameters_that_a_model_never_trains_stay_frozen_after_unfreezing():
    model = ThreeBlocks()
    model.features[0].weight.requires_grad_(False)
    schedule = FreezeSchedule(model, TrainConfig(trainable_groups=0, unfreeze_interval=1))
    schedule.set_trainable(100)
    assert not model.features[0].weight.requires_grad and model.features[0].bias.requires_grad
