"""What holds for every task, on its own toy data, through the door that users take."""

from __future__ import annotations

import json

import pytest
import torch

from thalweg import api, registry
from thalweg.config.options import Options
from thalweg.engine.config import TrainConfig
from thalweg.engine.freezing import freeze
from thalweg.engine.trainer import Trainer
from thalweg.objectives.base import Objective
from thalweg.training.build import TrainingRun

TASKS = registry.get_tasks()
SETTINGS = {"epochs": 3, "batch": 16, "threads": 1, "seed": 5}


def trained(task: str, folder, epochs_before_the_cut: int | None = None, **more) -> TrainingRun:
    training = api.plan_training(task, TASKS[task]().toy(), out=folder, **{**SETTINGS, **more})
    for progress in training:
        if epochs_before_the_cut and progress.valid and progress.epoch >= epochs_before_the_cut:
            break
    return training


@pytest.fixture(scope="module", params=TASKS)
def finished(request, tmp_path_factory):
    """(task, run): trained to the end, with its report."""
    task = request.param
    return task, trained(task, tmp_path_factory.mktemp("runs") / task).run


def test_a_run_leaves_what_it_promises(finished):
    task, run = finished
    for name in ("run.json", "weights.safetensors", "metrics.jsonl", "report.html", "MODEL_CARD.md"):
        assert (run.path / name).stat().st_size > 0, name
    assert list((run.path / "pictures").glob("*.png"))
    content = json.loads((run.path / "run.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert {"options", "plan", "versions", "seed", "results", "command", "facts"} <= content.keys()
    assert content["results"]["test"][TASKS[task].judged_by] > 0.5
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(finished, tmp_path):
    task, run = finished
    trained(task, tmp_path / "cut", epochs_before_the_cut=1, report=False)
    training = trained(task, tmp_path / "cut", resume=True, report=False)
    for name in ("weights.safetensors", "metrics.jsonl"):
        assert (training.path / name).read_bytes() == (run.path / name).read_bytes(), name


def test_answers_are_those_of_the_score(finished):
    """predict and evaluate see the same pictures in the same way, one by one and many at once."""
    task, run = finished
    data = TASKS[task]().toy()
    ones, many = ([a.top(99) for a in run.predict(list(data.test.images), batch=b)] for b in (1, 64))
    for one, other in zip(ones, many, strict=True):
        assert [label for label, _ in one] == [label for label, _ in other]
        assert [p for _, p in one] == pytest.approx([p for _, p in other], abs=1e-6)
    right = sum(data.classes[k] == top[0][0] for k, top in zip(data.test.labels, ones, strict=True))
    assert right / len(data.test) == pytest.approx(run.evaluate(data)["metrics"]["accuracy"])


@pytest.mark.parametrize("task", TASKS)
def test_frozen_features_stay_and_the_head_learns(task):
    chosen, options = TASKS[task](), Options()
    data = chosen.toy()
    facts = chosen.facts(data)
    network = registry.find_model(chosen.default_model, task)(**chosen.arguments(facts))
    freeze(network.features)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    objective: Objective = chosen.objective(network, facts, options)
    stream = chosen.stream(data.train, 16, 0, 0, 1, torch.device("cpu"))
    for _ in Trainer(objective, stream, TrainConfig(steps=20), chosen.augment(facts, options)):
        pass
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("features."), name
