"""The memory problems against definitions written out here; the stream of batches; names and lengths."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from thalweg.data.base import DataRequest
from thalweg.data.long_memory.batches import FreshBatches, encode_inputs
from thalweg.data.long_memory.dataset import NUM_SEQUENCES, SequenceSplit, build_dataset, load_sequences
from thalweg.data.long_memory.sequences import BLANK, DELIMITER, Problem, generate_sequences
from thalweg.errors import DataError, OptionError
from thalweg.tasks.base import Context

ADDING = Problem("adding", 30, 2)
COPY = Problem("copy", 30, 10)
ORDER = Problem("temporal-order", 100, 2)


# --- definitions ------------------------------------------------------------------------------------------------------


def test_adding_marks_one_number_in_each_half_and_asks_for_their_sum():
    sequences = generate_sequences(ADDING, 500, (7,))
    assert sequences.inputs.shape == (500, 30, 2) and sequences.inputs.dtype == np.float32
    for inputs_T2, target in zip(sequences.inputs, sequences.targets, strict=True):
        first, second = np.flatnonzero(inputs_T2[:, 1])
        assert first < 15 <= second
        assert target == pytest.approx(inputs_T2[first, 0] + inputs_T2[second, 0], abs=1e-6)
    assert 0 <= sequences.inputs[..., 0].min() and sequences.inputs[..., 0].max() < 1


def test_copy_asks_for_the_first_symbols_after_the_delimiter():
    sequences = generate_sequences(COPY, 50, (7,))
    assert sequences.inputs.shape == sequences.targets.shape == (50, 30 + 20)
    for inputs_T, target_T in zip(sequences.inputs, sequences.targets, strict=True):
        symbols = inputs_T[:10]
        assert symbols.max() < 8
        expected = [*symbols, *[BLANK] * 29, DELIMITER, *[BLANK] * 10]
        assert inputs_T.tolist() == expected
        assert target_T.tolist() == [BLANK] * 40 + symbols.tolist()


@pytest.mark.parametrize(("symbols", "places"), [(2, [(10, 20), (50, 60)]), (3, [(10, 20), (33, 43), (66, 76)])])
def test_temporal_order_is_the_order_of_x_and_y(symbols, places):
    sequences = generate_sequences(replace(ORDER, symbols=symbols), 300, (7,))
    for inputs_T, target in zip(sequences.inputs, sequences.targets, strict=True):
        assert (inputs_T[0], inputs_T[-1]) == (6, 7)
        positions = np.flatnonzero(np.isin(inputs_T, (4, 5)))
        assert len(positions) == symbols
        for position, (low, high) in zip(positions, places, strict=True):
            assert low <= position <= high
        assert target == int("".join("01"[inputs_T[position] - 4] for position in positions), 2)
        assert np.isin(np.delete(inputs_T, positions)[1:-1], (0, 1, 2, 3)).all()
    assert sorted(set(sequences.targets.tolist())) == list(range(2**symbols))


def test_the_best_predictor_without_memory_has_the_loss_that_is_stated():
    targets_N = generate_sequences(ADDING, 200_000, (8,)).targets
    assert ((targets_N - 1) ** 2).mean() == pytest.approx(1 / 6, abs=2e-3)
    assert pytest.approx(1 / 6) == ADDING.memoryless_loss
    for length, published in ((100, 0.1733), (200, 0.0945), (500, 0.0400), (1000, 0.0204), (2000, 0.0103)):
        assert round(replace(COPY, length=length).memoryless_loss, 4) == pytest.approx(published, abs=1e-4)
    # blanks are certain; each symbol is one of eight
    probabilities = [1.0] * 40 + [1 / 8] * 10
    assert -sum(map(math.log, probabilities)) / 50 == pytest.approx(COPY.memoryless_loss)
    assert ORDER.memoryless_loss == pytest.approx(math.log(4))
    assert replace(ORDER, symbols=3).memoryless_loss == pytest.approx(math.log(8))


def test_solved_is_an_mse_of_a_hundredth_or_a_tenth_of_the_memoryless_loss():
    assert ADDING.solved_loss == 0.01
    assert COPY.solved_loss == pytest.approx(COPY.memoryless_loss / 10)


def test_symbols_become_one_hot_vectors_and_numbers_stay():
    symbols_BT = torch.tensor([[0, 3]], dtype=torch.uint8)
    assert encode_inputs(symbols_BT, 4).tolist() == [[[1, 0, 0, 0], [0, 0, 0, 1]]]
    numbers = torch.rand(2, 3, 2)
    assert encode_inputs(numbers, 2) is numbers


# --- batches ----------------------------------------------------------------------------------------------------------


def make_batches(problem=ADDING, rank=0, world_size=1, grow_every=0, seed=3) -> FreshBatches:
    split = SequenceSplit(problem, "train", 160)
    context = Context(torch.device("cpu"), seed=seed, rank=rank, world_size=world_size)
    return FreshBatches(split, 16, context, grow_every)


def assert_equal_batches(one, other):
    for name in ("inputs", "targets"):
        assert torch.equal(one[name], other[name])


@pytest.mark.parametrize("problem", [ADDING, COPY, ORDER], ids=lambda problem: problem.name)
def test_a_step_has_the_same_sequences_whenever_it_is_made(problem):
    batches = make_batches(problem)
    first = list(islice(batches, 5))
    resumed = make_batches(problem)
    resumed.load_state_dict({"step": 3})
    for one, other in zip(first[3:], resumed, strict=False):
        assert_equal_batches(one, other)
    assert batches.state_dict() == {"step": 5} and batches.steps_per_epoch == 10


def test_every_step_and_every_seed_has_new_sequences():
    seen = [batch["targets"] for batch in islice(make_batches(), 20)]
    seen += [batch["targets"] for batch in islice(make_batches(seed=4), 20)]
    for split in ("val", "test"):
        seen.append(torch.from_numpy(SequenceSplit(ADDING, split, 16).sequences.targets))
    values = torch.cat(seen)
    assert len(values.unique()) > 0.99 * len(values)


def test_ranks_take_parts_of_the_batch_of_one():
    whole = make_batches().make_batch(4)
    parts = [make_batches(rank=rank, world_size=2).make_batch(4) for rank in (0, 1)]
    assert_equal_batches(whole, {name: torch.cat([part[name] for part in parts]) for name in whole})
    indices = [make_batches(rank=rank, world_size=2).batch_indices(4) for rank in (0, 1)]
    assert sum(indices, []) == make_batches().batch_indices(4) == list(range(64, 80))
    with pytest.raises(DataError, match="3 ranks") as error:
        make_batches(world_size=3)
    assert error.value.option == "batch_size" and error.value.value == 16


def test_sequences_grow_to_the_full_length():
    batches = make_batches(replace(COPY, length=640), grow_every=10)
    lengths = [batches.length_at(step) for step in range(0, 80, 10)]
    assert lengths[0] < lengths[1] and lengths[-1] == 640 and lengths == sorted(lengths)
    assert batches.make_batch(0)["inputs"].shape == (16, lengths[0] + 20)
    assert make_batches(grow_every=0).length_at(0) == 30
    assert make_batches(replace(ORDER, length=40), grow_every=10).length_at(0) == 20, "shorter ones do not exist"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "length", "symbols", "problem"),
    [
        ("adding", None, None, Problem("adding", 100, 2)),
        ("adding-600", None, None, Problem("adding", 600, 2)),
        ("copy", 500, 4, Problem("copy", 500, 4)),
        ("temporal-order-200", 200, 3, Problem("temporal-order", 200, 3)),
    ],
)
def test_a_name_with_or_without_a_length_is_a_problem(name, length, symbols, problem):
    dataset = load_sequences(DataRequest(name, for_training=True), length, symbols)
    assert dataset.problem == problem and dataset.name == problem.title
    assert {split: len(dataset.splits[split]) for split in dataset.splits} == NUM_SEQUENCES
    assert dataset.fingerprint != load_sequences(DataRequest("adding-99"), None, None).fingerprint


@pytest.mark.parametrize("source", ["data.txt", "adding-", "adding-600-2", "recall", "", "adding--5", 600])
def test_other_data_is_refused(source):
    with pytest.raises(DataError, match="adding-600") as error:
        load_sequences(DataRequest(source), None, None)
    assert error.value.value == str(source) and "copy" in error.value.allowed


@pytest.mark.parametrize(
    ("name", "length", "symbols", "option"),
    [
        ("adding-600", 500, None, "length"),
        ("adding", 1, None, "length"),
        ("temporal-order", 19, None, "length"),
        ("adding", None, 3, "symbols"),
        ("temporal-order", None, 4, "symbols"),
        ("adding-999999", None, None, "length"),
    ],
)
def test_impossible_lengths_and_symbols_are_refused_by_name(name, length, symbols, option):
    with pytest.raises(OptionError, match="expected") as error:
        load_sequences(DataRequest(name, for_training=True), length, symbols)
    assert error.value.option == option and error.value.cure


def test_val_and_test_are_always_the_same():
    one, other = (build_dataset(COPY, {"train": 8, "val": 8, "test": 8}) for _ in range(2))
    np.testing.assert_array_equal(one.test.sequences.inputs, other.test.sequences.inputs)
    assert (one.val.sequences.inputs != one.test.sequences.inputs).any()
