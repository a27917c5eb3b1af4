"""Several processes: what each of them does before it joins the others."""

from __future__ import annotations

import pytest
import torch

from thalweg.engine import distributed as ranks


@pytest.mark.parametrize("device, told", [("cuda", [("device", 3), "nccl", "left"]), ("cpu", ["gloo", "left"])])
def test_every_rank_takes_its_own_gpu_before_it_joins(monkeypatch, device, told):
    found = []
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: found.append(("device", number)))
    monkeypatch.setattr(ranks.dist, "init_process_group", found.append)
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: found.append("left"))
    with ranks.process_group(torch.device(device)):
        pass
    assert found == told


def test_one_alone_joins_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(ranks.dist, "init_process_group", lambda *_: pytest.fail("joined"))
    with ranks.process_group(torch.device("cpu")):
        assert (ranks.get_rank(), ranks.world_size()) == (0, 1)
        assert ranks.any_rank(True) and not ranks.any_rank(False) and ranks.broadcast_from_0(2.5) == 2.5
