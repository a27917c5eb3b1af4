"""Order is a function of the step: nothing is lost, nothing is seen twice, and any step can be named."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.batches import FeatureViewBatches, InMemoryBatches, SequenceBatches
from thalweg.errors import DataError


def resident(examples: int, batch: int, seed: int = 0, rank: int = 0, ranks: int = 1) -> InMemoryBatches:
    tensors = {"image": torch.arange(examples) * 10, "label": torch.arange(examples)}
    return InMemoryBatches(tensors, batch, seed, rank, ranks)


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_an_epoch_is_a_permutation_less_what_fills_no_batch(examples, batch, seed):
    stream = resident(examples, batch, seed)
    size = min(batch, examples)
    assert stream.steps_per_epoch == examples // size
    for _ in range(2):
        rows = torch.cat([b["label"] for b in islice(stream, stream.steps_per_epoch)]).tolist()
        assert len(rows) == len(set(rows)) == examples // size * size
        assert set(rows) <= set(range(examples))


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 30), st.integers(0, 9))
def test_ranks_share_the_batch_that_one_rank_has(ranks, share, more, step):
    examples, batch = ranks * share + more, ranks * share
    whole = resident(examples, batch, 5).batch_indices(step)
    parts = [resident(examples, batch, 5, rank, ranks).batch_indices(step) for rank in range(ranks)]
    assert [row for part in parts for row in part] == whole
    assert {len(part) for part in parts} == {share}


def test_every_tensor_of_a_batch_is_of_the_same_rows_and_rows_names_them():
    stream = resident(10, 3, 1)
    for step, batch in enumerate(islice(stream, 8)):
        assert torch.equal(batch["image"], batch["label"] * 10)
        assert stream.batch_indices(step) == batch["label"].tolist()
        assert stream.batch_indices(7 - step) == resident(10, 3, 1).batch_indices(7 - step)  # looking elsewhere moves nothing


def test_orders_differ_between_epochs_and_seeds_only():
    first, again, other = resident(50, 50, 1), resident(50, 50, 1), resident(50, 50, 2)
    assert first.batch_indices(0) == again.batch_indices(0)
    assert first.batch_indices(0) != first.batch_indices(1) and first.batch_indices(0) != other.batch_indices(0)


@pytest.mark.parametrize("stop", range(9))
def test_a_stream_goes_on_where_it_was_saved(stop):
    whole = [b["label"].tolist() for b in islice(resident(10, 3), 9)]
    first = resident(10, 3)
    before = [b["label"].tolist() for b in islice(first, stop)]
    second = resident(10, 3)
    second.load_state_dict(first.state_dict())
    assert before + [b["label"].tolist() for b in islice(second, 9 - stop)] == whole


@pytest.mark.parametrize(("examples", "batch", "ranks"), [(10, 3, 2), (10, 1, 2), (0, 4, 1), (3, 4, 2)])
def test_a_batch_that_the_ranks_cannot_share_is_refused(examples, batch, ranks):
    with pytest.raises(DataError, match="cannot be shared"):
        resident(examples, batch, ranks=ranks)


def views(count: int, examples: int, batch: int, seed: int = 0, rank: int = 0, ranks: int = 1) -> FeatureViewBatches:
    """Features that tell which view of which example they are."""
    features = torch.stack([torch.arange(examples) + 1000 * view for view in range(count)])[..., None]
    return FeatureViewBatches({"features": features, "label": torch.arange(examples)}, batch, seed, rank, ranks)


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_views_have_the_rows_of_their_examples_in_the_order_of_the_examples(count, examples, batch, seed):
    stream, plain = views(count, examples, batch, seed), resident(examples, batch, seed)
    assert stream.steps_per_epoch == plain.steps_per_epoch
    for step, found in enumerate(islice(stream, 2 * stream.steps_per_epoch)):
        assert found["label"].tolist() == plain.batch_indices(step) == stream.batch_indices(step)
        assert (found["features"][:, 0] % 1000).tolist() == found["label"].tolist()
        assert (found["features"] // 1000 < count).all()


def test_each_epoch_draws_a_view_of_every_example_anew():
    stream = views(3, 60, 20, seed=4)
    drawn = []
    for _ in range(50):
        epoch = torch.cat([batch["features"][:, 0] for batch in islice(stream, 3)])
        drawn.append((epoch // 1000)[(epoch % 1000).argsort()])
    share = torch.stack([(torch.stack(drawn) == view).float().mean() for view in range(3)])
    assert (share - 1 / 3).abs().max() < 0.03 and (torch.stack(drawn).float().std(0) > 0).all()
    assert not torch.equal(drawn[0], drawn[1])
    one, other = (torch.cat([b["features"] for b in islice(views(3, 60, 60, seed=s), 4)]) for s in (4, 5))
    assert not torch.equal(one, other)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 30), st.integers(0, 9))
def test_ranks_share_views_as_they_share_rows(ranks, share, more, step):
    examples, batch = ranks * share + more, ranks * share

    def at(*place: int) -> list[int]:
        stream = views(3, examples, batch, 5, *place)
        stream.load_state_dict({"step": step})
        return next(iter(stream))["features"][:, 0].tolist()

    assert [one for rank in range(ranks) for one in at(rank, ranks)] == at()


@pytest.mark.parametrize("stop", range(9))
def test_views_go_on_where_they_were_saved(stop):
    whole = [b["features"].tolist() for b in islice(views(4, 10, 3), 9)]
    first, second = views(4, 10, 3), views(4, 10, 3)
    before = [b["features"].tolist() for b in islice(first, stop)]
    second.load_state_dict(first.state_dict())
    assert before + [b["features"].tolist() for b in islice(second, 9 - stop)] == whole


def rows(items: int, batch: int, length: int, rank: int = 0, ranks: int = 1) -> SequenceBatches:
    return SequenceBatches(torch.arange(items), batch, length, rank, ranks)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 40))
def test_rows_go_on_from_batch_to_batch(batch, length, more):
    stream = rows(batch * (length + 1) + more, batch, length)
    pieces = list(islice(stream, stream.steps_per_epoch))
    read = torch.cat([piece["tokens"] for piece in pieces], 1)
    assert torch.equal(read.diff(dim=1), torch.ones_like(read[:, 1:]))  # each row is one text without gaps
    assert len(read.unique()) == read.numel()  # no two rows read the same item
    for number, piece in enumerate(pieces):
        assert torch.equal(piece["targets"], piece["tokens"] + 1) and piece["tokens"].shape == (batch, length)
        assert piece["resets"].tolist() == [float(number == 0)] * batch
    assert torch.equal(next(iter(stream))["tokens"], pieces[0]["tokens"])  # and begins again


def test_ranks_have_rows_of_their_own():
    whole = next(iter(rows(101, 4, 5)))
    parts = [next(iter(rows(101, 4, 5, rank, 2))) for rank in (0, 1)]
    for name in whole:
        assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])


def test_rows_go_on_where_they_were_saved():
    whole = [b["tokens"].tolist() for b in islice(rows(41, 2, 4), 12)]
    first, second = rows(41, 2, 4), rows(41, 2, 4)
    before = [b["tokens"].tolist() for b in islice(first, 7)]
    second.load_state_dict(first.state_dict())
    assert before + [b["tokens"].tolist() for b in islice(second, 5)] == whole
    assert [second.batch_indices(step)[0] for step in range(6)] == [0, 4, 8, 12, 16, 0]


@pytest.mark.parametrize(("items", "batch", "length", "ranks"), [(9, 2, 4, 1), (100, 3, 4, 2), (0, 1, 1, 1)])
def test_too_short_a_sequence_is_refused(items, batch, length, ranks):
    with pytest.raises(DataError, match=f"{items} items"):
        rows(items, batch, length, ranks=ranks)
