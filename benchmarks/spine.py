"""Count files and jumps between them from `thalweg train classify FOLDER` to the first optimizer.step().

    python benchmarks/spine.py photos/ [--model lenet] [--list]

A file is counted if one of its functions runs; that a module is imported is not enough. A jump is a function that calls
a function of another file of the package, counted once per pair of functions; frames of other packages in between, such
as torch's call of a module, are skipped. Needs thalweg in the Python that runs it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import thalweg

ROOT = str(Path(thalweg.__file__).parent)
IMPORT_TIME = ("<module>",)


class FirstStepReached(BaseException):
    """Ends the training when the first optimizer.step() begins."""


class CallCounter:
    """Counts calls inside the package. Use `profile` with sys.setprofile."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.jumps: Counter[tuple[str, str]] = Counter()
        self.accessors: set[str] = set()
        self.optimizer_class: type | None = None

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """Count one call. Raises FirstStepReached in place of the first optimizer.step()."""
        if event != "call":
            return
        code = frame.f_code
        if code.co_name == "step" and self._is_optimizer(frame.f_locals.get("self")):
            sys.setprofile(None)
            raise FirstStepReached
        if not code.co_filename.startswith(ROOT) or _runs_at_import(frame):
            return
        self.calls[_file_of(code)] += 1
        if code.co_name == "__len__" or _is_property(frame):
            self.accessors.add(_name_of(code))
        caller = _find_caller(frame)
        if caller is not None and caller.co_filename != code.co_filename:
            self.jumps[_name_of(caller), _name_of(code)] += 1

    def _is_optimizer(self, value: Any) -> bool:
        torch = sys.modules.get("torch")
        optim = getattr(torch, "optim", None)
        return optim is not None and isinstance(value, optim.Optimizer)


def _file_of(code: CodeType) -> str:
    return str(Path(code.co_filename).relative_to(ROOT))


def _name_of(code: CodeType) -> str:
    return f"{_file_of(code)}:{code.co_qualname}"


def _is_property(frame: FrameType) -> bool:
    owner = frame.f_locals.get("self")
    return isinstance(getattr(type(owner), frame.f_code.co_name, None), property)


def _runs_at_import(frame: FrameType) -> bool:
    """Whether a frame is a module's own code or is called by it, as decorators are."""
    current: FrameType | None = frame
    while current is not None:
        if current.f_code.co_name in IMPORT_TIME and current.f_code.co_filename.startswith(ROOT):
            return True
        current = current.f_back
    return False


def _find_caller(frame: FrameType) -> CodeType | None:
    """Return the nearest function of the package that a frame was called from."""
    current = frame.f_back
    while current is not None:
        if current.f_code.co_filename.startswith(ROOT):
            return current.f_code
        current = current.f_back
    return None


def count_calls(folder: str, model: str | None) -> CallCounter:
    """Begin a training on a folder of images, up to its first step."""
    counter = CallCounter()
    from thalweg.cli.main import invoke

    with tempfile.TemporaryDirectory() as out:
        words = ["train", "classify", folder, "--steps", "1", "--no-report", "--out", f"{out}/run"]
        words += ["--model", model] if model else []
        threading.setprofile(counter.profile)
        sys.setprofile(counter.profile)
        try:
            code = invoke(words)
        except FirstStepReached:
            return counter
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    raise SystemExit(f"the training ended with code {code} before its first step")


def main() -> None:
    """Print the number of files and of jumps, and with --list both lists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--model")
    parser.add_argument("--list", action="store_true", help="every file with its calls, and every jump")
    options = parser.parse_args()
    counter = count_calls(options.folder, options.model)
    if options.list:
        for file, calls in sorted(counter.calls.items()):
            print(f"{calls:7,} calls  {file}")
        for (caller, callee), calls in counter.jumps.items():
            print(f"{calls:7,} times  {caller} -> {callee}")
    pairs = {(caller.split(":")[0], callee.split(":")[0]) for caller, callee in counter.jumps}
    accessors = sum(callee in counter.accessors for _, callee in counter.jumps)
    print(
        f"{len(counter.calls)} files, {len(counter.jumps)} jumps ({len(pairs)} pairs of files), "
        f"{accessors} of the jumps to properties and __len__"
    )


if __name__ == "__main__":
    main()
