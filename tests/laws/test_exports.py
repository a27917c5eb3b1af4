"""The law of exports: every network of the registry can be written as ONNX, and answers alike there."""

from __future__ import annotations

import pytest
import torch

from thalweg import registry
from thalweg.data.toy import bars
from thalweg.export import export_onnx
from thalweg.tasks.classify import Classify, normalised

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

MODELS = registry.models("classify")
#: arguments that make another network of a model
VARIANTS = {"lenet": [{"variant": "1998"}], "convnet": [{"stem": 2, "depth": 2}], "mlp": [{"dropout": 0.2}]}
EVERY = [(name, more) for name in MODELS for more in [{}, *VARIANTS.get(name, [])]]


@pytest.mark.parametrize(("name", "more"), EVERY, ids=[f"{n}{m or ''}" for n, m in EVERY])
def test_the_export_agrees(name, more, tmp_path):
    data, task = bars(count=48, size=28), Classify()
    facts = task.facts(data)
    torch.manual_seed(0)
    network = MODELS[name](**task.arguments(facts), **more).to(memory_format=torch.channels_last)
    with torch.no_grad():  # so that batch statistics are not those of a new network
        network.train()(normalised(torch.from_numpy(data.train.images.copy()), facts))
    made = export_onnx(network.eval(), facts, tmp_path / "model.onnx", data.test.images)
    assert made.agreement == 1 and made.difference <= 1e-4 and made.samples == 2 * len(data.test)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
