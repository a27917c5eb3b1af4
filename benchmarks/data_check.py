"""Time and memory of `thalweg data check` on many JPEGs, and how many planted copies it finds.

    python benchmarks/data_check.py --count 20000
    python benchmarks/data_check.py --count 200000 --folder /big/disk/photos

Makes a folder of distinct JPEGs of 640x480 in two classes, nine tenths for training: crops of the photographs below
THALWEG_DATA (`photos`, `coco_subset/images`) blended with smooth noise. Copies of training images are planted in the
test split. Then one process after the other: an interpreter that only imports torch, two threads of plain Pillow that
read and decode every file once, `data check` with an empty cache, and `data check` again. A folder that is complete is
used again. Needs thalweg in the Python that runs it, and `os.wait4`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (640, 480)
TEST_FRACTION = 0.1
NUM_PHOTOS = 200
CHUNK = 1000
CLASSES = ("even", "odd")
KINDS = ("recompressed", "resized", "brightened", "mirrored", "shifted")
TREE = Path(__file__).resolve().parent.parent

READ_ALL = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image

def decode(path):
    with Image.open(path) as image:
        image.convert("RGB")

paths = sorted(Path(sys.argv[1]).rglob("*.jpg"))
with ThreadPoolExecutor(2) as pool:
    for start in range(0, len(paths), 1000):
        list(pool.map(decode, paths[start:start + 1000]))
"""


@dataclass(frozen=True)
class Measurement:
    """What one process took, and what it printed."""

    seconds: float
    processor_seconds: float
    peak_bytes: int
    output: str


def read_photos(data: Path) -> list[Image.Image]:
    """Return photographs, none larger than 1280 pixels."""
    paths = sorted((data / "photos").glob("*.jpg")) + sorted((data / "coco_subset" / "images").glob("*.jpg"))
    if not paths:
        raise SystemExit(f"no photographs in {data}; set THALWEG_DATA")
    photos = []
    for path in paths[:NUM_PHOTOS]:
        with Image.open(path) as image:
            image.thumbnail((1280, 1280))
            photos.append(image.convert("RGB"))
    return photos


def draw_image(seed: int, photos: list[Image.Image]) -> Image.Image:
    """Return the image of a seed: a part of a photograph under smooth noise."""
    rng = np.random.default_rng(seed)
    photo = photos[rng.integers(len(photos))]
    width = rng.uniform(0.35, 0.9) * min(photo.width, photo.height * SIZE[0] / SIZE[1])
    height = width * SIZE[1] / SIZE[0]
    left = rng.uniform(0, photo.width - width)
    top = rng.uniform(0, photo.height - height)
    part = photo.resize(SIZE, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
    noise = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    return Image.blend(part, noise, 0.4)


def copy_image(image: Image.Image, kind: str) -> tuple[Image.Image, int]:
    """Return a copy of an image that is not equal, and the quality that it is saved with."""
    if kind == "recompressed":
        return image, 30
    if kind == "resized":
        return image.resize((480, 360), Image.Resampling.BICUBIC), 85
    if kind == "brightened":
        return image.point(lambda level: min(255, round(0.85 * level + 30))), 85
    if kind == "mirrored":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 85
    return image.crop((1, 1, *SIZE)), 85


def list_files(count: int, per_kind: int) -> list[tuple[str, int, str]]:
    """Return (path, seed, kind) of every file; the kind is empty but for copies."""
    copies = per_kind * len(KINDS)
    num_train = round((1 - TEST_FRACTION) * count)
    files = []
    for seed in range(count - copies):
        split = "train" if seed < num_train else "test"
        files.append((f"{split}/{CLASSES[seed % 2]}/{seed // CHUNK:03}/{seed:07}.jpg", seed, ""))
    originals = np.random.default_rng(0).permutation(num_train)[:copies].tolist()
    for number, seed in enumerate(originals):
        kind = KINDS[number % len(KINDS)]
        files.append((f"test/{CLASSES[seed % 2]}/copies/{kind}-{seed:07}.jpg", seed, kind))
    return files


def make_folder(folder: Path, files: list[tuple[str, int, str]], photos: list[Image.Image]) -> None:
    """Write all files that are not there."""

    def write(file: tuple[str, int, str]) -> None:
        name, seed, kind = file
        path = folder / name
        if path.exists():
            return
        image, quality = draw_image(seed, photos), 85
        if kind:
            image, quality = copy_image(Image.open(io.BytesIO(encode(image, quality))), kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_bytes(encode(image, quality))
        draft.rename(path)

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), CHUNK):
            list(pool.map(write, files[start : start + CHUNK]))
            print(f"\rmade {min(start + CHUNK, len(files)):,} of {len(files):,}", end="", file=sys.stderr)
    print(file=sys.stderr)


def encode(image: Image.Image, quality: int) -> bytes:
    """Return the image as a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def measure(command: list[str], cache: str) -> Measurement:
    """Run a process with two threads; return its time, its largest memory and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "THALWEG_CACHE": cache}
    environment["PYTHONPATH"] = os.pathsep.join([str(TREE / "src"), os.environ.get("PYTHONPATH", "")])
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = time.monotonic() - start
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, output)


def print_recall(report: dict, files: list[tuple[str, int, str]]) -> None:
    """Print how many copies of each kind were found with their original, and how many others were reported."""
    expected = {name: (seed, kind) for name, seed, kind in files if kind}
    correct = dict.fromkeys(KINDS, 0)
    wrong = 0
    for pair in report["near_duplicates"]:
        seed, kind = expected.get(pair["second"]["source"].replace(os.sep, "/"), (-1, ""))
        if kind and Path(pair["first"]["source"]).stem == f"{seed:07}" and pair["mirrored"] == (kind == "mirrored"):
            correct[kind] += 1
        else:
            wrong += 1
    for kind in KINDS:
        total = sum(other == kind for _, other in expected.values())
        print(f"  {kind:<14}{correct[kind]:>6,} of {total:,}")
    tested = sum(report["counts"]["test"]) - len(expected)
    print(f"  {'others':<14}{wrong:>6,} of {tested:,}")
    print(f"  {report['near_duplicate_search']}")


def main() -> None:
    """Make the folder, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="number of files")
    parser.add_argument("--copies", type=int, default=0, help="planted copies of each kind  [default: count / 500]")
    parser.add_argument("--folder", help="where the files are, or are made and kept  [default: a temporary folder]")
    options = parser.parse_args()
    files = list_files(options.count, options.copies or max(5, options.count // 500))
    data = Path(os.environ.get("THALWEG_DATA", TREE.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or str(Path(scratch) / "images")
        make_folder(Path(folder), files, read_photos(data))
        check = ["-m", "thalweg", "data", "check", folder, "--task", "classify", "--json"]
        cache = str(Path(scratch) / "cache")
        rows = {
            "an interpreter with torch": measure(["-c", "import torch"], cache),
            "read and decode, Pillow": measure(["-c", READ_ALL, folder], cache),
            "data check": measure(check, cache),
            "data check again": measure(check, cache),
        }
        reference = rows["read and decode, Pillow"].seconds
        base = rows["an interpreter with torch"].peak_bytes
        print(f"{len(files):,} JPEGs of {SIZE[0]}x{SIZE[1]}, two threads")
        for name, row in rows.items():
            rate = (
                ""
                if name.startswith("an ")
                else f"{len(files) / row.seconds:>9,.0f}/s {row.seconds / reference:>7.2f}x"
            )
            extra = (row.peak_bytes - base) / 1e6
            cost = f"{row.seconds:>8.1f} s {row.processor_seconds:>8.1f} s of processors"
            print(f"  {name:<27}{cost} {row.peak_bytes / 1e6:>7,.0f} MB ({extra:+,.0f}) {rate}")
        print("copies of training images in the test split")
        print_recall(json.loads(rows["data check"].output), files)


if __name__ == "__main__":
    main()
