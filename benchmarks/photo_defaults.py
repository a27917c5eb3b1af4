"""Measure what `thalweg train classify` makes of a small set of photos: the mean test accuracy over seeds.

    python benchmarks/photo_defaults.py --out runs/photo-defaults
    python benchmarks/photo_defaults.py --set augment=crop,flip --set epochs=80 --validate

The set is made of CIFAR-10 in THALWEG_DATA: 60 images of each class as PNG files in train/, and 200 of each, of the
official test batch, in test/. With --validate, test/ has other images of the training batches instead: settings are
chosen on these. Every seed draws other training images. Beside the defaults stand those without augmentation.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

from thalweg import api
from thalweg.data.base import DataRequest
from thalweg.data.images.dataset import ImageSplit
from thalweg.data.images.load import load_dataset

TRAIN_PER_CLASS = 60
TEST_PER_CLASS = 200
#: what was chosen before there were defaults for photos
PLAIN = {"augment": "none", "epochs": 40.0, "keep_best": False}


def choose_rows(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` random rows of each class."""
    rows = [rng.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)]
    return np.concatenate(rows)


def write_images(folder: Path, split: ImageSplit, rows: np.ndarray, classes: tuple[str, ...]) -> None:
    """Write images as PNG files into one folder per class."""
    for row in rows:
        file = folder / classes[split.labels[row]] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(split.images[row]).save(file)


def make_photos(folder: Path, seed: int, validate: bool) -> Path:
    """Write the set of one seed, once."""
    if folder.exists():
        return folder
    dataset = load_dataset(DataRequest("cifar10"))
    rng = np.random.default_rng(seed)
    train = dataset.train
    rows = choose_rows(train.labels, TRAIN_PER_CLASS + TEST_PER_CLASS, rng).reshape(len(dataset.classes), -1)
    write_images(folder / "train", train, rows[:, :TRAIN_PER_CLASS].ravel(), dataset.classes)
    if validate:
        write_images(folder / "test", train, rows[:, TRAIN_PER_CLASS:].ravel(), dataset.classes)
    else:
        test_rows = choose_rows(dataset.test.labels, TEST_PER_CLASS, np.random.default_rng(0))
        write_images(folder / "test", dataset.test, test_rows, dataset.classes)
    return folder


def train(photos: Path, out: Path, seed: int, options: dict[str, object]) -> api.Run:
    """Train with one seed, or resume it; return the finished run."""
    training = api.plan_training("classify", photos, seed=seed, out=out, resume=out.exists(), report=False, **options)
    for _ in training:
        pass
    return api.Run(training.run_dir)


def measure(name: str, options: dict[str, object], arguments: argparse.Namespace) -> None:
    """Train every seed, and print the accuracy and seconds of each, then their mean."""
    accuracies = []
    for seed in range(arguments.seeds):
        kind = "validate" if arguments.validate else "test"
        photos = make_photos(arguments.out / f"photos-{kind}-{seed}", seed, arguments.validate)
        run = train(photos, arguments.out / f"{name}-{kind}-{seed}", seed, options)
        accuracies.append(run.results["test"]["accuracy"])
        seconds = run.results["seconds"]
        print(f"{name}, seed {seed}: {accuracies[-1]:.1%} in {seconds:.0f} s", flush=True)
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"{name}: {statistics.mean(accuracies):.1%}, std {std:.1%}, over {len(accuracies)} seeds", flush=True)


def parse_value(text: str) -> object:
    """Return a number, True or False where the text is one."""
    try:
        return json.loads(text.lower())
    except json.JSONDecodeError:
        return text


def main() -> None:
    """Measure the defaults, or the given settings, beside a training without augmentation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the training")
    parser.add_argument("--name", default="defaults", help="names the runs in --out; finished runs are not repeated")
    parser.add_argument("--validate", action="store_true", help="test on other images of the training batches")
    parser.add_argument("--plain", action="store_true", help="measure only the training without augmentation")
    parser.add_argument("--cpu-threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/photo-defaults"))
    arguments = parser.parse_args()
    options: dict[str, object] = {"cpu_threads": arguments.cpu_threads}
    for setting in arguments.set:
        name, _, value = setting.partition("=")
        options[name.replace("-", "_")] = parse_value(value)
    if not arguments.plain:
        measure(arguments.name, options, arguments)
    if arguments.plain or not arguments.set:
        measure("plain", PLAIN | options, arguments)


if __name__ == "__main__":
    main()
