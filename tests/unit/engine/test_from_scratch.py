"""The plain loops of examples/from_scratch give the package's numbers."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import thalweg
from thalweg import registry
from thalweg.data.batches import InMemoryBatches
from thalweg.data.images.dataset import ImageDataset, Split
from thalweg.data.images.named_datasets import read_digits
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.losses.classification import cross_entropy
from thalweg.objectives.base import Loss
from thalweg.objectives.supervised import Supervised

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "from_scratch"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"from_scratch_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_plain_loop_is_short_and_stands_alone(script):
    text = script.read_text(encoding="utf-8")
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names <= {"math", "numpy", "sklearn", "torch"}
    assert len(text.splitlines()) <= 100


def test_its_digits_are_those_of_the_package():
    images, labels = imported(FOLDER / "supervised.py").digits()
    split = read_digits().parts["train"]
    np.testing.assert_array_equal(images, split.images[..., 0])
    np.testing.assert_array_equal(labels, split.labels)


def test_supervised_gives_the_weights_of_the_loop_of_the_package():
    """The same first weights, order and optimiser: 150 updates later the weights are the same.

    In double precision, because AdaGrad makes of the smallest gradient, and so of its rounding, a whole step.
    """
    plain = imported(FOLDER / "supervised.py")
    images, labels = (part[:800] for part in plain.digits())
    x, y = plain.prepared(images, 0.3, 0.37).double(), torch.from_numpy(labels)
    torch.manual_seed(3)
    model = plain.network().double()
    torch.manual_seed(3)
    network = registry.find_model("mlp")(channels=1, classes=10, size=8).double()
    plain.train(model, x, y, epochs=6, seed=3)

    def criterion(network, batch) -> Loss:
        return Loss(cross_entropy(network(batch["image"]), batch["label"]), len(batch["label"]))

    stream = InMemoryBatches({"image": x.view(-1, 1, 8, 8), "label": y}, plain.BATCH, seed=3)
    recipe = TrainConfig(steps=6 * stream.steps_per_epoch, lr=plain.RATE, optimizer="adagrad", schedule="cosine")
    reports = list(Trainer(Supervised(network, criterion), stream, recipe))
    assert reports[-1].step == 150 and reports[-1].losses["loss"] < 0.1
    for weight, value in zip(model.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(weight, value, atol=1e-6, rtol=0)


def test_supervised_gives_the_weights_of_a_whole_training(tmp_path, capsys):
    """From pictures to saved weights, with the numbers that the package found out for itself."""
    plain = imported(FOLDER / "supervised.py")
    images, labels = (part[:520] for part in plain.digits())

    def split(rows: slice) -> Split:
        return Split(images[rows, ..., None], labels[rows], [str(n) for n in range(len(labels[rows]))])

    train, rest = slice(0, 320), slice(320, 520)
    data = ImageDataset(
        "digits", "test", "", tuple("0123456789"), split(train), split(rest), split(rest), fingerprint="x"
    )
    same = {"lr": plain.RATE, "batch": plain.BATCH, "optimizer": "adagrad", "schedule": "cosine"}
    wanted = {"model": "mlp", "epochs": 1, "seed": 3, "precision": "float32", "report": False}
    run = thalweg.train(data=data, out=tmp_path / "run", **same, **wanted)
    mean, std = run.facts["mean"][0], run.facts["std"][0]
    assert (mean, std) == pytest.approx((images[train].mean() / 255, images[train].std() / 255), abs=1e-6)
    torch.manual_seed(3)
    model = plain.network()
    plain.train(model, plain.prepared(images[train], mean, std), torch.from_numpy(labels[train]), epochs=1, seed=3)
    for weight, value in zip(model.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(weight.detach(), value.detach(), atol=1e-4, rtol=0)  # one step is 0.05
    assert "epoch  1" in capsys.readouterr().out
    told = plain.accuracy(model, plain.prepared(images[rest], mean, std), torch.from_numpy(labels[rest]))
    assert told == pytest.approx(run.results["test"]["accuracy"]) and told > 0.5
