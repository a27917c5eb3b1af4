"""The plain loops of examples/from_scratch compute the package's numbers."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import thalweg
from thalweg import registry
from thalweg.data.batches import InMemoryBatches
from thalweg.data.images.dataset import ImageDataset, ImageSplit
from thalweg.data.images.named_datasets import read_digits
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.losses.classification import cross_entropy
from thalweg.objectives.base import Batch, Loss
from thalweg.objectives.supervised import Supervised

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "from_scratch"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def import_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"from_scratch_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def supervised() -> ModuleType:
    return import_script(FOLDER / "supervised.py")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_plain_loop_is_short_and_stands_alone(script):
    text = script.read_text(encoding="utf-8")
    packages = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add(node.module.split(".")[0])
    assert packages <= {"math", "numpy", "sklearn", "torch"}
    assert len(text.splitlines()) <= 100


def test_its_digits_are_those_of_the_package(supervised):
    images, labels = supervised.load_digits()
    split = read_digits().splits["train"]
    np.testing.assert_array_equal(images, split.images[..., 0])
    np.testing.assert_array_equal(labels, split.labels)


def test_the_plain_loop_gives_the_weights_of_the_trainer(supervised):
    """Equal initial weights, order and optimizer give equal weights after 150 updates.

    In double precision, because AdaGrad turns the smallest gradient, and its rounding error, into a full step.
    """
    images, labels = supervised.load_digits()
    x = supervised.normalize(images[:800], 0.3, 0.37).double()
    y = torch.from_numpy(labels[:800])
    torch.manual_seed(3)
    plain_model = supervised.build_model().double()
    torch.manual_seed(3)
    model = registry.find_model("mlp")(in_channels=1, num_classes=10, image_size=8).double()
    supervised.train(plain_model, x, y, epochs=6, seed=3)

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        return Loss(cross_entropy(model(batch["image"]), batch["label"]), len(batch["label"]))

    batches = InMemoryBatches({"image": x.view(-1, 1, 8, 8), "label": y}, supervised.BATCH_SIZE, seed=3)
    config = TrainConfig(steps=6 * batches.steps_per_epoch, lr=supervised.LR, optimizer="adagrad", schedule="cosine")
    reports = list(Trainer(Supervised(model, criterion), batches, config))
    assert reports[-1].step == 150 and reports[-1].losses["loss"] < 0.1
    for expected, param in zip(plain_model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(expected, param, atol=1e-6, rtol=0)


def test_the_plain_loop_gives_the_weights_of_a_full_training(supervised, tmp_path, capsys):
    """From images to saved weights, with the normalization that the package computes itself."""
    images, labels = supervised.load_digits()

    def make_split(start: int, stop: int) -> ImageSplit:
        return ImageSplit(images[start:stop, ..., None], labels[start:stop], [str(i) for i in range(stop - start)])

    train_split = make_split(0, 320)
    test_split = make_split(320, 520)
    classes = tuple("0123456789")
    splits = {"train": train_split, "val": test_split, "test": test_split}
    data = ImageDataset("digits", "arrays", "", splits, "x", "ten digits", classes=classes)
    run = thalweg.train(
        "classify",
        data,
        out=tmp_path / "run",
        model="mlp",
        epochs=1,
        seed=3,
        precision="float32",
        report=False,
        lr=supervised.LR,
        batch_size=supervised.BATCH_SIZE,
        optimizer="adagrad",
        schedule="cosine",
    )
    mean = images[:320].mean() / 255
    std = images[:320].std() / 255
    assert (run.spec.mean[0], run.spec.std[0]) == pytest.approx((mean, std), abs=1e-6)
    x = supervised.normalize(images, run.spec.mean[0], run.spec.std[0])
    y = torch.from_numpy(labels)
    torch.manual_seed(3)
    model = supervised.build_model()
    supervised.train(model, x[:320], y[:320], epochs=1, seed=3)
    for expected, param in zip(model.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(expected.detach(), param.detach(), atol=1e-4, rtol=0)  # one step is 0.05
    assert "epoch  1" in capsys.readouterr().out
    accuracy = supervised.accuracy(model, x[320:520], y[320:520])
    assert accuracy == pytest.approx(run.results["test"]["accuracy"]) and accuracy > 0.5
