"""Compare what two source trees compute: trained weights bit for bit, and the bundled models' probabilities.

    git worktree add ../old ccb8cc9
    python benchmarks/golden.py --old ../old
    python benchmarks/golden.py --old ../old --drawings my_drawings/

Trains a LeNet on the bundled digits for two epochs on one thread with each tree, and predicts a folder of drawings with
each bundled model. Needs the packages of thalweg in the Python that runs it. The exit code is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

NEW = Path(__file__).resolve().parent.parent
TRAIN = ("train", "classify", "digits", "--model", "lenet", "--epochs", "2", "--precision", "float32", "--no-report")
MODELS = ("digits-lenet", "digits-mlp", "cifar10-fast")
NUM_DRAWINGS = 40
MAX_DIFFERENCE = 1e-6


def run_thalweg(tree: Path, *words: str) -> str:
    """Run the command line of a source tree on one thread; return its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "THALWEG_OFFLINE": "1"}
    command = [sys.executable, "-m", "thalweg", *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{tree}: thalweg {' '.join(words)} ended with {result.returncode}:\n{result.stderr}")
    return result.stdout


def train(tree: Path, out: Path) -> dict[str, np.ndarray]:
    """Train with a source tree; return the tensors of the run."""
    run_thalweg(tree, *TRAIN, "--out", str(out))
    return safetensors.numpy.load_file(out / "weights.safetensors")


def compare_weights(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> list[str]:
    """Return a line for each tensor that differs."""
    differences = [f"{name} is in one tree only" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        if old[name].shape != new[name].shape or old[name].tobytes() != new[name].tobytes():
            differences.append(f"{name} differs")
    return differences


def write_drawings(folder: Path) -> None:
    """Write digits as a pen would draw them: enlarged, soft, dark on light paper, some of them off center."""
    digits = load_digits().images
    random = np.random.default_rng(0)
    for k in range(NUM_DRAWINGS):
        ink = Image.fromarray((digits[37 * k] * 255 / 16).astype(np.uint8)).resize((160, 160), Image.Resampling.BICUBIC)
        page = Image.new("L", (240, 280), 0)
        page.paste(ink, (int(random.integers(80)), int(random.integers(120))))
        pixels_HW = 225 - np.asarray(page.filter(ImageFilter.GaussianBlur(2)), np.float32) * 0.8
        Image.fromarray(pixels_HW.astype(np.uint8)).save(folder / f"{k}.png")


def predict(tree: Path, model: str, folder: Path) -> dict[str, list[float]]:
    """Return the probabilities of every drawing, by file."""
    rows = csv.reader(run_thalweg(tree, "predict", model, str(folder), "--csv").splitlines())
    next(rows)
    return {source: [float(value) for value in values] for source, _, *values in rows}


def compare_predictions(old: dict[str, list[float]], new: dict[str, list[float]]) -> tuple[float, int]:
    """Return the largest difference of a probability, and how many sources only one tree predicted."""
    differences = [0.0]
    for source in old.keys() & new.keys():
        differences += [abs(a - b) for a, b in zip(old[source], new[source], strict=True)]
    return max(differences), len(old.keys() ^ new.keys())


def main() -> int:
    """Print what agrees and what differs; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", type=Path, required=True, help="a checkout of another version")
    parser.add_argument("--drawings", type=Path, help="a folder of images; without it, some are drawn")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        differences = compare_weights(train(options.old, folder / "old"), train(NEW, folder / "new"))
        failed |= bool(differences)
        print("trained weights:", "; ".join(differences) or "equal, bit for bit")
        drawings = options.drawings or folder / "drawings"
        if options.drawings is None:
            drawings.mkdir()
            write_drawings(drawings)
        for model in MODELS:
            old = predict(options.old, model, drawings)
            difference, unmatched = compare_predictions(old, predict(NEW, model, drawings))
            failed |= difference > MAX_DIFFERENCE or unmatched > 0
            print(f"{model}: {len(old)} drawings, largest difference {difference:.1e}, {unmatched} in one tree only")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
