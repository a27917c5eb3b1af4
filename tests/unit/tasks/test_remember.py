"""The task remember: losses against the formulas, evaluation, and what a run says of being solved."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from thalweg import api
from thalweg.config.json_record import FieldError
from thalweg.data.base import DataRequest
from thalweg.data.long_memory.dataset import SequenceSplit, build_dataset
from thalweg.data.long_memory.sequences import Problem
from thalweg.errors import DataError, OptionError
from thalweg.tasks.base import Context
from thalweg.tasks.remember import Remember, RememberSpec, RememberTrainOptions, compute_loss, find_correct, measure

COPY = Problem("copy", 6, 4)
ADDING = Problem("adding", 12, 2)
ORDER = Problem("temporal-order", 20, 2)


class Constant(torch.nn.Module):
    """Answers the same at every step."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, x_BTC):
        return self.values.expand(*x_BTC.shape[:2], -1)


def test_remembering_nothing_has_the_memoryless_loss():
    cpu = torch.device("cpu")
    split = SequenceSplit(ADDING, "test", 4000)
    assert measure(Constant([1.0]), split, cpu)[0] == pytest.approx(1 / 6, abs=0.01)
    loss, solved = measure(Constant([0.0] * 4), SequenceSplit(ORDER, "test", 4000), cpu)
    assert loss == pytest.approx(math.log(4)) and solved == pytest.approx(1 / 4, abs=0.03)


def test_copy_counts_every_step_and_is_right_only_as_a_whole():
    targets_BT = torch.tensor([[8, 8, 1, 2], [8, 8, 3, 4]])
    logits_BTK = torch.randn(2, 4, 10)
    loss, count = compute_loss(logits_BTK, targets_BT, COPY)
    expected = F.nll_loss(logits_BTK.log_softmax(-1).reshape(8, 10), targets_BT.reshape(8))
    assert loss == pytest.approx(expected) and count == 8
    right_BTK = F.one_hot(targets_BT, 10).float()
    right_BTK[1, 3] = right_BTK[1, 2]
    assert find_correct(right_BTK, targets_BT, COPY).tolist() == [True, False]


def test_adding_counts_the_last_step_and_is_right_within_four_hundredths():
    outputs_BT1 = torch.tensor([[[5.0], [1.03]], [[1.0], [1.05]]])
    targets_B = torch.tensor([1.0, 1.0])
    loss, count = compute_loss(outputs_BT1, targets_B, ADDING)
    assert loss == pytest.approx((0.03**2 + 0.05**2) / 2, rel=1e-4) and count == 2
    assert find_correct(outputs_BT1, targets_B, ADDING).tolist() == [True, False]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network that learned to remember one symbol over a few steps."""
    dataset = build_dataset(Problem("copy", 3, 1), {"train": 640, "val": 64, "test": 64}, "tiny")
    training = api.plan_training(
        "remember",
        dataset,
        out=tmp_path_factory.mktemp("run") / "run",
        steps=300,
        batch_size=32,
        cpu_threads=1,
        lr=0.01,
    )
    for _ in training:
        pass
    return api.load(training.path)


def test_a_short_problem_is_solved_and_the_run_says_so(run):
    details = run.results["details"]
    assert run.results["test"]["solved"] > 0.99 and details["problem_solved"] is True
    assert details["memoryless_loss"] == pytest.approx(math.log(8) / 5)
    assert details["summary"].startswith("copy-3 is solved: loss ")
    (sample,) = run.sample(seed=4)
    assert sample.correct and sample.target == sample.answer


def test_other_lengths_are_evaluated_and_other_problems_refused(run):
    task = Remember()
    spec = RememberSpec("copy", 3, 1)
    context = Context(torch.device("cpu"))
    options = RememberTrainOptions(symbols=1)
    assert len(task.load_data(DataRequest("copy-5"), options, context, spec).test) == 2560
    for name in ("adding", "copy-3"):
        with pytest.raises(DataError, match="the model knows copy") as error:
            task.load_data(DataRequest(name), RememberTrainOptions(), context, spec)
        assert error.value.allowed == ["copy-3"]


def test_chrono_initialization_is_on_by_default_and_can_be_turned_off(tmp_path):
    dataset = Remember().toy_dataset()
    biases = []
    for kwargs in ({}, {"memory": 0}):
        training = api.plan_training("remember", dataset, out=tmp_path / str(len(kwargs)), model_kwargs=kwargs)
        bias = training.parts.model.features.rnn.layers[0].bias_ih_l0.detach()
        biases.append(bias[64:128])
    assert biases[0].max() > 2 and len(biases[0].unique()) == 64
    assert biases[1].unique().tolist() == [1.0]


def test_data_in_memory_takes_no_length(tmp_path):
    with pytest.raises(OptionError) as error:
        api.plan_training("remember", Remember().toy_dataset(), out=tmp_path / "run", length=7)
    assert error.value.option == "length"


@pytest.mark.parametrize("change", [{"length": 0}, {"symbols": 3}])
def test_a_spec_that_no_problem_has_is_refused(change):
    with pytest.raises(FieldError) as error:
        replace(RememberSpec("adding", 10, 2), **change)
    assert error.value.field in change
