"""The law of exports: every model of the registry can be written as ONNX, and predicts the same there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.laws.test_models import CASES, NUM_CLASSES, Case
from thalweg.data.images.input_spec import to_normalized_float
from thalweg.data.images.synthetic import make_bars
from thalweg.inference.export_onnx import export_onnx
from thalweg.tasks.classify import Classify

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

#: these take most of a minute each: tests/reference has them
SLOW = ("inception_v3", "mobilenet_v3_small", "resnet50")
REPRESENTATIVES = [case for case in CASES if case.is_representative]
FAST_CASES = [case for case in REPRESENTATIVES if case.name not in SLOW]
SLOW_CASES = [case for case in REPRESENTATIVES if case.name in SLOW]


@pytest.mark.parametrize("case", FAST_CASES, ids=str)
def test_the_export_agrees(case, tmp_path):
    check_export(case, tmp_path)


def check_export(case: Case, folder: Path) -> None:
    """Export one model and check the proof."""
    dataset = make_bars(count=48, size=case.size)
    task = Classify()
    spec = task.data_spec(dataset, task.TrainOptions())
    model = case.build().to(memory_format=torch.channels_last)
    with torch.no_grad():  # so that batch statistics are not those of a new model
        model.train()(to_normalized_float(torch.from_numpy(dataset.train.images.copy()), spec))
    spec.classes.extend(map(str, range(NUM_CLASSES - len(spec.classes))))
    report = export_onnx(task.export_spec(model.eval(), spec, dataset.test), folder / "model.onnx")
    numbers = report.proof.numbers
    assert numbers["agreement"] == 1 and numbers["max_difference"] <= 1e-4
    assert numbers["samples"] > 2 * len(dataset.test)
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
