"""A sequence with its answer: what is printed, saved and drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from thalweg.data.long_memory.sequences import Problem
from thalweg.models.remember.recurrent import memory_gru, memory_lstm, memory_rnn
from thalweg.plots.memory_sequence import order_name
from thalweg.tasks.remember import answer_sequence

PROBLEMS = [
    Problem("adding", 40, 2),
    Problem("copy", 5, 3),
    Problem("copy", 200, 10),
    Problem("temporal-order", 60, 3),
]


def build(problem: Problem):
    torch.manual_seed(0)
    return memory_gru(problem.num_inputs, problem.num_outputs, width=8, memory=problem.steps)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.title)
def test_an_answer_is_json_and_a_picture(problem):
    answer = answer_sequence(build(problem), problem, 3, "sample 1")
    values = json.loads(json.dumps(answer.json(), allow_nan=False))
    assert values["steps"] == problem.steps and values["seed"] == 3 and answer.rows() == [answer.json()]
    assert answer.brief()[0].startswith(f"sample 1, {problem.steps} steps: target ") and repr(answer)
    image = answer.draw()
    assert image.width == 1800 and np.asarray(image).std() > 5
    edges = np.asarray(image.convert("L"))
    assert (edges[0] > 250).all() and (edges[-1] > 250).all() and (edges[:, -1] > 250).all()
    assert set(answer.files()) == {".png"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.title)
def test_a_model_that_knows_the_target_is_right(problem):
    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x_BTC):
            if problem.name == "adding":
                return (x_BTC[..., 0] * x_BTC[..., 1]).cumsum(1)[..., None]
            symbols_BT = x_BTC.argmax(2)
            if problem.name == "copy":
                targets_BT = torch.full_like(symbols_BT, 8)
                targets_BT[:, -problem.symbols :] = symbols_BT[:, : problem.symbols]
                return torch.nn.functional.one_hot(targets_BT, problem.num_outputs).float() * 9
            order_B = torch.zeros(len(symbols_BT), dtype=torch.long)
            for symbol_B in symbols_BT.T:
                order_B = torch.where((symbol_B == 4) | (symbol_B == 5), 2 * order_B + symbol_B - 4, order_B)
            one_hot_BK = torch.nn.functional.one_hot(order_B, problem.num_outputs).float()
            return one_hot_BK[:, None].expand(-1, problem.steps, -1)

    answer = answer_sequence(Oracle(), problem, 0, "sample 1")
    assert answer.correct and answer.brief()[0].endswith("right")
    if isinstance(answer.target, str):
        assert answer.target == answer.answer and len(answer.target) == problem.symbols


def test_orders_are_named_by_their_symbols():
    assert [order_name(index, 4) for index in range(4)] == ["XX", "XY", "YX", "YY"]
    assert order_name(5, 8) == "YXY"


def test_models_differ_in_their_cell_and_gates_begin_open_for_the_memory():
    counts = {}
    for build_model in (memory_rnn, memory_gru, memory_lstm):
        model = build_model(2, 1, width=16, memory=100)
        counts[build_model.__name__] = sum(map(torch.numel, model.features.parameters()))
        assert model(torch.zeros(3, 5, 2)).shape == (3, 5, 1)
    assert counts["memory_lstm"] == 4 * counts["memory_rnn"] and counts["memory_gru"] == 3 * counts["memory_rnn"]
    bias = memory_lstm(2, 1, width=16, memory=0).features.rnn.layers[0].bias_ih_l0
    assert bias[16:32].tolist() == [1.0] * 16
