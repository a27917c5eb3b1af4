"""Seconds and memory until a collection of images is listed, on the first run and on the second: indexing.py --count N.

Files are JPEGs of 160 x 120, all different, in ten folders, a tar file, a zip file and a table, made in a folder that
is removed afterwards. Every run is a process of its own; memory is the peak over an interpreter with torch imported.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

NUM_CLASSES = 10
NUM_PATTERNS = 50


def make_contents(count: int) -> list[bytes]:
    """Return JPEG files that differ in a comment."""
    rng = np.random.default_rng(0)
    patterns = []
    for _ in range(NUM_PATTERNS):
        image = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (160, 120), Image.Resampling.BICUBIC
        )
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        patterns.append(file.getvalue())
    contents = []
    for number in range(count):
        pattern = patterns[number % NUM_PATTERNS]
        contents.append(pattern[:2] + b"\xff\xfe\x00\x0a" + f"{number:08d}".encode() + pattern[2:])
    return contents


def write_collections(root: Path, contents: list[bytes]) -> dict[str, Path]:
    """Write the same images in four ways."""
    folder = root / "folder"
    table = ["path,label"]
    with tarfile.open(root / "shard.tar", "w") as tar, zipfile.ZipFile(root / "images.zip", "w") as archive:
        for number, content in enumerate(contents):
            name = f"class{number % NUM_CLASSES}"
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{number:07d}.jpg").write_bytes(content)
            table.append(f"{name}/{number:07d}.jpg,{name}")
            archive.writestr(f"{name}/{number:07d}.jpg", content)
            for ending, member in (("jpg", content), ("cls", name.encode())):
                info = tarfile.TarInfo(f"{number:07d}.{ending}")
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    (folder / "table.csv").write_text("\n".join(table), encoding="utf-8")
    paths = {"folder": folder, "table": folder / "table.csv", "tar": root / "shard.tar", "zip": root / "images.zip"}
    return paths


def measure(path: str) -> None:
    """Load a collection in this process, and print its figures."""
    import torch  # noqa: F401 - its memory is not ours

    from thalweg.data.base import DataRequest
    from thalweg.data.images.load import load_dataset

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    cpu_start = time.process_time()
    load_dataset(DataRequest(path), 224, storage="disk")
    seconds = time.perf_counter() - start
    cpu_seconds = time.process_time() - cpu_start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    print(f"{seconds:6.2f} s ({cpu_seconds:.2f} s of a processor), {megabytes:.0f} MB")


def main() -> None:
    """Make the collections, and load each twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--path", help="load this alone, in this process")
    arguments = parser.parse_args()
    if arguments.path:
        measure(arguments.path)
        return
    with tempfile.TemporaryDirectory() as root:
        paths = write_collections(Path(root), make_contents(arguments.count))
        environment = {**os.environ, "THALWEG_CACHE": str(Path(root) / "cache")}
        for kind, path in paths.items():
            for run in ("first run", "second run"):
                command = [sys.executable, __file__, "--path", str(path)]
                output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                print(f"{arguments.count:,} images, {kind:6} {run:10} {output.strip()}", flush=True)


if __name__ == "__main__":
    main()
