"""Training in several processes: joining and leaving the process group."""

from __future__ import annotations

import pytest
import torch

from thalweg.engine import distributed as ranks


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", ["cuda:3", "nccl", "destroyed"]), ("cpu", ["gloo", "destroyed"])]
)
def test_every_rank_selects_its_own_gpu_before_it_joins(monkeypatch, device, expected):
    calls = []
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: calls.append(f"cuda:{index}"))
    monkeypatch.setattr(ranks.dist, "init_process_group", calls.append)
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: calls.append("destroyed"))
    with ranks.process_group(torch.device(device)):
        pass
    assert calls == expected


def test_a_single_process_joins_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(ranks.dist, "init_process_group", lambda *_: pytest.fail("joined a group"))
    with ranks.process_group(torch.device("cpu")):
        assert (ranks.get_rank(), ranks.world_size()) == (0, 1)
        assert ranks.any_rank(True) and not ranks.any_rank(False) and ranks.broadcast_from_0(2.5) == 2.5
