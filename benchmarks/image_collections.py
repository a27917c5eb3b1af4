"""Large collections of images: reading, training, memory, start and crashes, beside plain PyTorch.

    python benchmarks/image_collections.py make --folder /data/bench --count 50000
    python benchmarks/image_collections.py make --folder /data/bench --count 300 --size 3000x2000
    python benchmarks/image_collections.py loading --folder /data/bench
    python benchmarks/image_collections.py training --folder /data/bench
    python benchmarks/image_collections.py memory --folder /data/bench
    python benchmarks/image_collections.py start --folder /data/bench
    python benchmarks/image_collections.py kills --folder /data/bench

Run with the interpreter of an environment that has thalweg. What is compared takes turns in one run, and medians are
printed, as a table or with --json. The cache of the measurements lies in the folder, too.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_collections_plain import BoxDataset, plain_loader, plain_training
from PIL import Image
from torch import nn

from thalweg.data.base import DataRequest
from thalweg.data.batches import BatchOrder
from thalweg.data.decoded_batches import DecodedBatches
from thalweg.data.images.load import load_dataset
from thalweg.data.images.pack import pack_images, pack_side
from thalweg.data.images.stored_images import StoredImages
from thalweg.data.images.training_decoder import TrainingDecoder

SMALL, LARGE = "640x480", "3000x2000"
IMAGE_SIZE = 224
#: different images; each file gets a comment of its own, so that no two have equal bytes
NUM_ORIGINALS = 300
NUM_FOLDERS = 100
QUALITY = 85
Row = dict[str, Any]


# --- the files --------------------------------------------------------------------------------------------------------


def make(args: argparse.Namespace) -> list[Row]:
    """Write JPEG files of one size into class folders."""
    width, height = map(int, args.size.split("x"))
    folder = args.folder / args.size
    sources = load_sources()
    rng = np.random.default_rng(0)
    num_originals = min(args.count, NUM_ORIGINALS)
    originals = [encode_crop(sources[i % len(sources)], (width, height), rng) for i in range(num_originals)]
    started = time.perf_counter()
    num_classes = min(NUM_FOLDERS, max(2, args.count // 20))
    for label in range(num_classes):
        (folder / f"class{label:02}").mkdir(parents=True, exist_ok=True)
    for index in range(args.count):
        content = with_comment(originals[index % num_originals], f"{index}")
        (folder / f"class{index % num_originals % num_classes:02}" / f"{index:07}.jpg").write_bytes(content)
    size = sum(map(len, originals)) / num_originals
    return [{"files": args.count, "bytes a file": round(size), "seconds": time.perf_counter() - started}]


def load_sources() -> list[Image.Image]:
    """Return photos of THALWEG_DATA/photos, or noise of several scales where there are none."""
    folder = Path(os.environ.get("THALWEG_DATA", "shared/data")) / "photos"
    files = sorted(file for file in folder.glob("*") if file.suffix in (".jpg", ".png"))
    if files:
        return [Image.open(file).convert("RGB") for file in files]
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for side in (8, 32, 128)]
    return [image.resize((1024, 768), Image.Resampling.BICUBIC) for image in noise]


def encode_crop(source: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> bytes:
    """Return a random part of a photo as a JPEG of `size` (width, height), with noise as of a camera."""
    scale = rng.uniform(0.5, 1) * min(source.width / size[0], source.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = rng.uniform(0, source.width - width), rng.uniform(0, source.height - height)
    image = source.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    noisy = np.asarray(image) + rng.normal(0, 6, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def with_comment(jpeg: bytes, text: str) -> bytes:
    """Return a JPEG with a comment segment behind its first marker."""
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode() + jpeg[2:]


def stored_images(folder: Path, limit: int) -> StoredImages:
    """Return up to `limit` training images of a folder."""
    dataset = load_dataset(DataRequest(str(folder)), IMAGE_SIZE, channels=3, storage="disk")
    images = dataset.train.images
    assert isinstance(images, StoredImages)
    return images.take(np.arange(min(limit, len(images))))


# --- images per second into a network -------------------------------------------------------------------------------


def loading(args: argparse.Namespace) -> list[Row]:
    """Compare images per second of our batches and of torch's DataLoader, alone and beside a training step."""
    small = stored_images(args.folder / SMALL, args.images)
    packed = pack_images(small, pack_side(small.size, args.min_area), print_note)
    cases: list[tuple[str, StoredImages, StoredImages, bool]] = [
        ("from files", small, small, False),
        ("from the cache", packed, small, False),
        ("from files, beside training", small, small, True),
    ]
    if (args.folder / LARGE).is_dir():
        large = stored_images(args.folder / LARGE, args.images)
        cases.append((f"{LARGE} photos", large, large, False))
    rows = []
    for name, ours, theirs, trains in cases:
        rates: dict[str, list[float]] = {"thalweg": [], "DataLoader": []}
        for _ in range(args.repeats):
            rates["thalweg"].append(measure_rate(our_batches(ours, args), args, trains))
            rates["DataLoader"].append(measure_rate(their_batches(theirs, args), args, trains))
        rows.append({"case": name, **compare(rates["thalweg"], rates["DataLoader"])})
    rows.append({"case": "training step alone", "thalweg": measure_rate(repeat_batch(args), args, True)})
    return rows


def our_batches(images: StoredImages, args: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Yield images (B, H, W, C) uint8."""
    decoder = TrainingDecoder(images, 0, args.min_area)
    label_N = torch.zeros(len(images), dtype=torch.int64)
    order = BatchOrder(len(images), args.batch_size)
    stream = DecodedBatches(decoder, images.shape[1:], {"label": label_N}, order, args.workers)
    with closing(iter(stream)) as batches:
        for batch in batches:
            yield batch["image"]


def their_batches(images: StoredImages, args: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Yield images (B, H, W, C) uint8 of the same boxes."""
    paths = [str(images.encoded.read(row)) for row in range(len(images))]
    epoch = 0
    while True:
        dataset = BoxDataset(paths, [0] * len(paths), IMAGE_SIZE, args.min_area, epoch)
        for image, _ in plain_loader(dataset, args.batch_size, args.workers):
            yield image
        epoch += 1


def repeat_batch(args: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Yield one batch again and again."""
    batch = torch.zeros(args.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)
    while True:
        yield batch


def measure_rate(batches: Iterator[torch.Tensor], args: argparse.Namespace, trains: bool) -> float:
    """Return images per second over `args.batches` batches, after four."""
    step = make_step() if trains else do_nothing
    started = 0.0
    count = 0
    for index, batch in enumerate(batches):
        step(batch)
        count += len(batch)
        if index == 3:
            started = time.perf_counter()
            count = 0
        if index == 3 + args.batches:
            break
    seconds = time.perf_counter() - started
    batches.close()  # type: ignore[attr-defined]
    return count / seconds


def do_nothing(image_BHWC: torch.Tensor) -> None:
    """Cost nothing, as the network of the measurement does."""


def make_step() -> Callable[[torch.Tensor], None]:
    """Return a training step of a small convolutional network, which keeps all cores busy."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 7, 4), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 2)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(image_BHWC: torch.Tensor) -> None:
        x_BCHW = image_BHWC.permute(0, 3, 1, 2).float().div_(255)
        loss = model(x_BCHW).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


# --- training ---------------------------------------------------------------------------------------------------------


def training(args: argparse.Namespace) -> list[Row]:
    """Compare images per second of training: ours in float32 and with our defaults, and the PyTorch example's loop."""
    rates: dict[str, list[float]] = {"float32": [], "auto": [], "plain": []}
    for _ in range(args.repeats):
        for precision in ("float32", "auto"):
            rates[precision].append(float(run_child(args, "train-ours", precision)))
        rates["plain"].append(float(run_child(args, "train-plain", "")))
    return [
        {"case": "float32", **compare(rates["float32"], rates["plain"])},
        {"case": "our defaults", **compare(rates["auto"], rates["plain"])},
    ]


def train_ours(args: argparse.Namespace) -> None:
    """Print images per second of `thalweg train classify`."""
    from thalweg import api

    out = args.folder / "runs" / f"speed-{os.getpid()}"
    warmup = 3
    options = {"model": args.model, "augment": f"crop={args.min_area},flip", "precision": args.value, "report": False}
    run = api.plan_training(
        "classify",
        str(args.folder / SMALL),
        out=str(out),
        image_size=IMAGE_SIZE,
        storage="disk",
        steps=warmup + args.batches,
        batch_size=args.batch_size,
        decode_threads=args.workers,
        **options,
    )
    assert run.parts is not None
    trainer = run.parts.trainer
    times = []
    train_step = trainer.train_step

    def timed_step(due: Any, batch: Any) -> None:
        train_step(due, batch)
        times.append(time.perf_counter())

    trainer.train_step = timed_step  # type: ignore[method-assign]
    for _ in trainer:
        pass
    shutil.rmtree(out)
    print(args.batch_size * args.batches / (times[-1] - times[warmup - 1]))


def train_plain(args: argparse.Namespace) -> None:
    """Print images per second of the PyTorch example's loop."""
    from thalweg.registry import find_model

    files = sorted((args.folder / SMALL).rglob("*.jpg"))
    classes = sorted({file.parent.name for file in files})
    labels = [classes.index(file.parent.name) for file in files]
    model = find_model(args.model)(in_channels=3, num_classes=len(classes), image_size=IMAGE_SIZE)
    dataset = BoxDataset(list(map(str, files)), labels, IMAGE_SIZE, args.min_area, 0, normalizes=True)
    print(plain_training(model, plain_loader(dataset, args.batch_size, args.workers), args.batches))


# --- memory and start -------------------------------------------------------------------------------------------------


def memory(args: argparse.Namespace) -> list[Row]:
    """Measure the largest memory of a training, and of a step of its model, over that of an interpreter with torch."""
    peaks = {}
    for child in ("peak-torch", "peak-step", "peak-training"):
        peaks[child] = statistics.median(int(run_child(args, child, "")) for _ in range(args.repeats)) / 1e6
    base = peaks["peak-torch"]
    over = {"step alone": peaks["peak-step"] - base, "training": peaks["peak-training"] - base}
    return [{"case": f"MB over torch, {args.model}", **over, "torch": base}]


def print_peak(args: argparse.Namespace) -> None:
    """Print the largest resident memory of this process in bytes, after a training where that is asked for."""
    if args.child == "peak-training":
        from thalweg.cli.main import invoke

        out = args.folder / "runs" / f"memory-{os.getpid()}"
        code = invoke([*command_words(args), "--out", str(out)])
        assert code == 0
        shutil.rmtree(out)
    if args.child == "peak-step":
        run_plain_step(args)
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    print(int(peak.split()[1]) * 1024)


def run_plain_step(args: argparse.Namespace) -> None:
    """Run one training step of the model on black images, as precise as our defaults are."""
    from thalweg.registry import find_model
    from thalweg.training.plan import resolve_precision

    model = find_model(args.model)(in_channels=3, num_classes=100, image_size=args.image_size)
    model.to(memory_format=torch.channels_last)
    is_bfloat16 = resolve_precision("auto", torch.device("cpu"), model) == "bfloat16"
    x_BHWC = torch.zeros(args.batch_size, args.image_size, args.image_size, 3)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
        loss = model(x_BHWC.permute(0, 3, 1, 2)).float().mean()
    loss.backward()


def command_words(args: argparse.Namespace) -> list[str]:
    """Return the words of a training's command."""
    words = ["train", "classify", str(args.folder / SMALL), "--image-size", str(args.image_size)]
    words += ["--steps", str(args.batches), "--batch-size", str(args.batch_size), "--storage", "disk"]
    return [*words, "--model", args.model]


def start(args: argparse.Namespace) -> list[Row]:
    """Measure seconds from the command to the first step; the first run makes the index."""
    seconds = [float(run_child(args, "first-step", str(time.time()))) for _ in range(1 + args.repeats)]
    return [{"case": "from command to first step", "first": seconds[0], "later": statistics.median(seconds[1:])}]


def print_first_step(args: argparse.Namespace) -> None:
    """Run a training up to its first step; print the seconds since the parent started this process."""
    from thalweg.cli.main import invoke
    from thalweg.engine.trainer import Trainer

    def stop(trainer: Trainer, due: Any, batch: Any) -> None:
        print(time.time() - float(args.value), flush=True)
        shutil.rmtree(out)
        os._exit(0)

    Trainer.train_step = stop  # type: ignore[method-assign]
    out = args.folder / "runs" / f"start-{os.getpid()}"
    sys.exit(invoke([*command_words(args), "--out", str(out)]))


# --- crashes ----------------------------------------------------------------------------------------------------------


def kills(args: argparse.Namespace) -> list[Row]:
    """Kill a training ten times, resume it with other numbers of threads, and compare its weights bit for bit."""
    folder = args.folder / "runs"
    shutil.rmtree(folder / "whole", ignore_errors=True)
    shutil.rmtree(folder / "killed", ignore_errors=True)
    words = [*command_words(args), "--augment", "crop,flip", "--cpu-threads", "1", "--no-report"]
    whole = start_command(args, [*words, "--out", str(folder / "whole")])
    assert whole.wait() == 0
    generator = random.Random(0)
    out = folder / "killed"
    process = start_command(args, [*words, "--checkpoint-every", "0.2", "--out", str(out)])
    num_kills = 0
    while num_kills < args.kills:
        wait_for_checkpoint(process, out)
        time.sleep(generator.uniform(0, 1))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        num_kills += 1
        threads = str(generator.choice((1, 2, 3, 4)))
        process = start_command(args, ["train", "--resume", "--out", str(out), "--decode-threads", threads])
    assert process.wait() == 0
    is_equal = (folder / "whole/weights.safetensors").read_bytes() == (out / "weights.safetensors").read_bytes()
    return [{"case": "resumed after SIGKILL", "kills": num_kills, "weights": "identical" if is_equal else "DIFFERENT"}]


def start_command(args: argparse.Namespace, words: list[str]) -> subprocess.Popen[bytes]:
    """Start `thalweg WORDS`."""
    return subprocess.Popen([sys.executable, "-m", "thalweg", *words], stdout=subprocess.DEVNULL, stderr=sys.stderr)


def wait_for_checkpoint(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until a run has saved a checkpoint that was not there before, or ends."""
    before = checkpoints(out)
    while process.poll() is None and not checkpoints(out) - before:
        time.sleep(0.05)


def checkpoints(out: Path) -> set[str]:
    """Return the names of a run's checkpoints."""
    return {path.name for path in (out / "state").glob("*[0-9]")}


# --- the command ------------------------------------------------------------------------------------------------------


def run_child(args: argparse.Namespace, child: str, value: str) -> str:
    """Run a part of a measurement in a process of its own; return the last line that it prints."""
    words = [sys.executable, __file__, "child", child, "--value", value]
    for name in ("folder", "batches", "batch_size", "workers", "image_size", "min_area", "model"):
        words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    result = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout.strip().splitlines()[-1]


CHILDREN: dict[str, Callable[[argparse.Namespace], None]] = {
    "train-ours": train_ours,
    "train-plain": train_plain,
    "peak-torch": print_peak,
    "peak-step": print_peak,
    "peak-training": print_peak,
    "first-step": print_first_step,
}


def compare(ours: Iterable[float], theirs: Iterable[float]) -> Row:
    """Return medians of both and their ratio."""
    our_rate, their_rate = statistics.median(ours), statistics.median(theirs)
    return {"thalweg": our_rate, "plain PyTorch": their_rate, "ratio": our_rate / their_rate}


def print_note(text: str) -> None:
    """Print a line beside the result."""
    print(text, file=sys.stderr)


def print_rows(rows: list[Row], as_json: bool) -> None:
    """Print a result as JSON, or as lines of names and numbers."""
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else str(value) for name, value in row.items())
        )


def main() -> None:
    """Run a measurement."""
    measurements = {"make": make, "loading": loading, "training": training, "memory": memory, "start": start}
    measurements["kills"] = kills
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurement", choices=[*measurements, "child"])
    parser.add_argument("child", nargs="?", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--value", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, required=True, help="where the files, caches and runs are")
    add_number = partial(parser.add_argument, type=int)
    add_number("--count", default=50_000, help="files to make")
    parser.add_argument("--size", default=SMALL, help="width x height of the files to make")
    add_number("--images", default=4000, help="images that are read in turn")
    add_number("--batches", default=30, help="batches, or steps, that are measured")
    add_number("--batch-size", default=64, help="images per batch")
    add_number("--image-size", default=IMAGE_SIZE, help="side of the images of a training")
    add_number("--workers", default=2, help="our threads, and the DataLoader's processes")
    add_number("--repeats", default=3, help="measurements of which the median counts")
    add_number("--kills", default=10, help="how often a training is killed")
    parser.add_argument("--min-area", type=float, default=0.35, help="smallest area of the random crops")
    parser.add_argument("--model", default="resnet18", help="model of the trainings")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    args.folder = args.folder.resolve()
    os.environ["THALWEG_CACHE"] = str(args.folder / "cache")
    if args.measurement == "child":
        CHILDREN[args.child](args)
    else:
        print_rows(measurements[args.measurement](args), args.json)


if __name__ == "__main__":
    main()
