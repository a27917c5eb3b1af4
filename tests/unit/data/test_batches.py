"""The order of batches is a function of the step: nothing is lost, nothing is repeated, and any step can be named."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.batches import FeatureViewBatches, InMemoryBatches, SequenceBatches
from thalweg.errors import DataError


def make_batches(n: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> InMemoryBatches:
    tensors = {"image": torch.arange(n) * 10, "label": torch.arange(n)}
    return InMemoryBatches(tensors, batch_size, seed, rank, world_size)


def labels(batches, count: int) -> list[list[int]]:
    return [batch["label"].tolist() for batch in islice(batches, count)]


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_an_epoch_is_a_permutation_without_the_incomplete_batch(n, batch_size, seed):
    batches = make_batches(n, batch_size, seed)
    size = min(batch_size, n)
    assert batches.steps_per_epoch == n // size and batches.batch_size == size
    for _ in range(2):
        indices = sum(labels(batches, batches.steps_per_epoch), [])
        assert len(indices) == len(set(indices)) == n // size * size
        assert set(indices) <= set(range(n))


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 30), st.integers(0, 9))
def test_ranks_split_the_batch_of_one_rank(world_size, rank_size, extra, step):
    n = world_size * rank_size + extra
    batch_size = world_size * rank_size
    full = make_batches(n, batch_size, 5).batch_indices(step)
    parts = [make_batches(n, batch_size, 5, rank, world_size).batch_indices(step) for rank in range(world_size)]
    assert sum(parts, []) == full
    assert {len(part) for part in parts} == {rank_size}


def test_all_tensors_of_a_batch_have_the_indices_that_batch_indices_names():
    batches = make_batches(10, 3, 1)
    for step, batch in enumerate(islice(batches, 8)):
        assert torch.equal(batch["image"], batch["label"] * 10)
        assert batches.batch_indices(step) == batch["label"].tolist()
        other_step = 7 - step  # asking for another step changes nothing
        assert batches.batch_indices(other_step) == make_batches(10, 3, 1).batch_indices(other_step)


def test_the_order_depends_on_epoch_and_seed_only():
    first = make_batches(50, 50, 1)
    same_seed = make_batches(50, 50, 1)
    other_seed = make_batches(50, 50, 2)
    assert first.batch_indices(0) == same_seed.batch_indices(0)
    assert first.batch_indices(0) != first.batch_indices(1)
    assert first.batch_indices(0) != other_seed.batch_indices(0)


@pytest.mark.parametrize("stop", range(9))
def test_batches_continue_from_a_saved_position(stop):
    full = labels(make_batches(10, 3), 9)
    first = make_batches(10, 3)
    before = labels(first, stop)
    second = make_batches(10, 3)
    second.load_state_dict(first.state_dict())
    assert before + labels(second, 9 - stop) == full


@pytest.mark.parametrize(("n", "batch_size", "world_size"), [(10, 3, 2), (10, 1, 2), (0, 4, 1), (3, 4, 2)])
def test_a_batch_that_the_ranks_cannot_split_is_refused(n, batch_size, world_size):
    with pytest.raises(DataError) as error:
        make_batches(n, batch_size, world_size=world_size)
    assert error.value.option == "batch_size" and error.value.value == min(n, batch_size)


# --- views of features -----------------------------------------------------------------------------------------------


def make_views(
    num_views: int, n: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
) -> FeatureViewBatches:
    """Features that encode their view and example."""
    features = torch.stack([torch.arange(n) + 1000 * view for view in range(num_views)])[..., None]
    tensors = {"features": features, "label": torch.arange(n)}
    return FeatureViewBatches(tensors, batch_size, seed, rank, world_size)


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_views_have_the_order_of_their_examples(num_views, n, batch_size, seed):
    views = make_views(num_views, n, batch_size, seed)
    plain = make_batches(n, batch_size, seed)
    assert views.steps_per_epoch == plain.steps_per_epoch
    for step, batch in enumerate(islice(views, 2 * views.steps_per_epoch)):
        assert batch["label"].tolist() == plain.batch_indices(step) == views.batch_indices(step)
        assert (batch["features"][:, 0] % 1000).tolist() == batch["label"].tolist()
        assert (batch["features"] // 1000 < num_views).all()


def test_each_epoch_samples_a_new_view_of_every_example():
    views = make_views(3, 60, 20, seed=4)
    epochs = []
    for _ in range(50):
        features = torch.cat([batch["features"][:, 0] for batch in islice(views, 3)])
        epochs.append((features // 1000)[(features % 1000).argsort()])
    view_EN = torch.stack(epochs)
    fraction = torch.stack([(view_EN == view).float().mean() for view in range(3)])
    assert (fraction - 1 / 3).abs().max() < 0.03 and (view_EN.float().std(0) > 0).all()
    assert not torch.equal(epochs[0], epochs[1])
    by_seed = [torch.cat([b["features"] for b in islice(make_views(3, 60, 60, seed=seed), 4)]) for seed in (4, 5)]
    assert not torch.equal(*by_seed)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 30), st.integers(0, 9))
def test_ranks_split_views_like_examples(world_size, rank_size, extra, step):
    n = world_size * rank_size + extra

    def features_of(rank: int, ranks: int) -> list[int]:
        views = make_views(3, n, world_size * rank_size, 5, rank, ranks)
        views.load_state_dict({"step": step})
        return next(iter(views))["features"][:, 0].tolist()

    parts = [features_of(rank, world_size) for rank in range(world_size)]
    assert sum(parts, []) == features_of(0, 1)


@pytest.mark.parametrize("stop", range(9))
def test_views_continue_from_a_saved_position(stop):
    full = [batch["features"].tolist() for batch in islice(make_views(4, 10, 3), 9)]
    first = make_views(4, 10, 3)
    second = make_views(4, 10, 3)
    before = [batch["features"].tolist() for batch in islice(first, stop)]
    second.load_state_dict(first.state_dict())
    assert before + [batch["features"].tolist() for batch in islice(second, 9 - stop)] == full


# --- sequences -------------------------------------------------------------------------------------------------------


def make_sequence(n: int, batch_size: int, length: int, rank: int = 0, world_size: int = 1) -> SequenceBatches:
    return SequenceBatches(torch.arange(n), batch_size, length, rank, world_size)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 40))
def test_rows_of_text_continue_from_batch_to_batch(batch_size, length, extra):
    batches = make_sequence(batch_size * (length + 1) + extra, batch_size, length)
    epoch = list(islice(batches, batches.steps_per_epoch))
    tokens = torch.cat([batch["tokens"] for batch in epoch], 1)
    assert torch.equal(tokens.diff(dim=1), torch.ones_like(tokens[:, 1:]))  # each row is one text without gaps
    assert len(tokens.unique()) == tokens.numel()  # no two rows share a token
    for step, batch in enumerate(epoch):
        assert torch.equal(batch["targets"], batch["tokens"] + 1) and batch["tokens"].shape == (batch_size, length)
        assert batch["resets"].tolist() == [float(step == 0)] * batch_size
        assert batch["row"].tolist() == list(range(batch_size)) and batch["row"].dtype == torch.int64
    assert torch.equal(next(iter(batches))["tokens"], epoch[0]["tokens"])  # starts again


def test_ranks_split_the_rows_of_text():
    full = next(iter(make_sequence(101, 4, 5)))
    parts = [next(iter(make_sequence(101, 4, 5, rank, 2))) for rank in (0, 1)]
    for name in full:
        assert torch.equal(torch.cat([part[name] for part in parts]), full[name])
    assert make_sequence(101, 4, 5, 1, 2).batch_size == 4


def test_text_continues_from_a_saved_position():
    full = [batch["tokens"].tolist() for batch in islice(make_sequence(41, 2, 4), 12)]
    first = make_sequence(41, 2, 4)
    second = make_sequence(41, 2, 4)
    before = [batch["tokens"].tolist() for batch in islice(first, 7)]
    second.load_state_dict(first.state_dict())
    assert before + [batch["tokens"].tolist() for batch in islice(second, 5)] == full
    assert [second.batch_indices(step)[0] for step in range(6)] == [0, 4, 8, 12, 16, 0]


@pytest.mark.parametrize(("n", "batch_size", "length"), [(9, 2, 4), (0, 1, 1)])
def test_too_short_a_text_is_refused(n, batch_size, length):
    with pytest.raises(DataError) as error:
        make_sequence(n, batch_size, length)
    assert error.value.value == n and error.value.allowed == [batch_size * (length + 1)]


def test_rows_of_text_that_the_ranks_cannot_split_are_refused():
    with pytest.raises(DataError) as error:
        make_sequence(100, 3, 4, world_size=2)
    assert error.value.option == "batch_size" and error.value.value == 3
