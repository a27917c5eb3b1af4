"""The law of exports: every network of the registry can be written as ONNX, and answers alike there."""

from __future__ import annotations

import pytest
import torch
from thalweg.data.images.preprocess import to_normalized_float

from tests.laws.test_models import CLASSES, HELD, build, usual
from thalweg.data.images.synthetic import make_bars
from thalweg.inference.export_onnx import export_onnx
from thalweg.tasks.classify import Classify

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

#: these take most of a minute each: tests/reference has them
LONG = ("inception_v3", "mobilenet_v3_small", "resnet50")
QUICK = [(name, more) for name, more in HELD if name not in LONG]


@pytest.mark.parametrize(("name", "more"), QUICK, ids=[f"{n}{m or ''}" for n, m in QUICK])
def test_the_export_agrees(name, more, tmp_path):
    agrees(name, more, tmp_path)


def agrees(name, more, tmp_path):
    """Holds one network to the law."""
    size = usual(name, more)
    data, task = make_bars(count=48, size=size), Classify()
    facts = task.facts(data)
    torch.manual_seed(0)
    network = build(name, more, size=size).to(memory_format=torch.channels_last)
    with torch.no_grad():  # so that batch statistics are not those of a new network
        network.train()(to_normalized_float(torch.from_numpy(data.train.images.copy()), facts))
    facts["classes"] = [*facts["classes"], *map(str, range(CLASSES - len(facts["classes"])))]
    made = export_onnx(network.eval(), facts, tmp_path / "model.onnx", data.test.images)
    assert made.agreement == 1 and made.difference <= 1e-4 and made.samples > 2 * len(data.test)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
