"""Write a model as one ONNX file, and prove that it agrees with the model before it is kept."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ExportError, OptionError, ResourceError
from ..io.atomic_write import fsync_dir, write_fsync
from ..tasks.base import ExportProof, ExportSpec
from ..version import __version__

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how well it agrees."""

    path: Path
    proof: ExportProof

    def summary(self) -> str:
        """Return the proof in a line."""
        return self.proof.text


def export_onnx(spec: ExportSpec, path: Path) -> ExportReport:
    """Write an ONNX file and compare it with the model.

    Raises OptionError for a path that no file can have, ResourceError for a package that is not installed and a file
    that cannot be written, ExportError where the model cannot be written as ONNX or disagrees; then no file is left.
    """
    check_output_path(path)
    check_packages()
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_fsync(draft, to_onnx_bytes(spec))
        proof = spec.prove(onnx_runner(draft, spec.input_names[0], spec.output_names))
        if proof.problem:
            raise ExportError(
                f"The exported model disagrees: {proof.text}; {proof.problem}. Nothing was written.",
                "Look for what the model does only in PyTorch.",
                value=proof.numbers,
            )
        os.replace(draft, path)
        fsync_dir(path.parent)
    except OSError as error:
        raise ResourceError(
            f"Could not write {path}: {error.strerror or error}.", "Make room, or give another --out.", path=path
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return ExportReport(path, proof)


def check_output_path(path: Path) -> None:
    """Raise OptionError for what is there and not a file, a device for instance, and for what no file can be named."""
    try:
        is_taken = path.exists() and not path.is_file()
        parent = next((folder for folder in path.absolute().parents if folder.exists()), path)
    except OSError as error:
        raise OptionError(f"--out: {path}: {error.strerror}.", "Give another name.", option="out", path=path) from error
    if is_taken or not parent.is_dir():
        raise OptionError(
            f"--out: {path} is a folder or a device, or below a file; expected a file name.", option="out", path=path
        )


def check_packages() -> None:
    """Raise ResourceError, naming the first package for ONNX that is missing."""
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            raise ResourceError(
                f"Writing ONNX needs the package {package}: {error}.", 'pip install "thalweg[onnx]"', value=package
            ) from error


def to_onnx_bytes(spec: ExportSpec) -> bytes:
    """Return the bytes of the ONNX file, with nothing in it about this machine. Raises ExportError."""
    import onnx

    try:
        with suppress_output(), torch.no_grad():
            spec.module(*spec.example_inputs)  # what is computed once and cached must not be computed by a tracer
            program: Any = torch.onnx.export(
                spec.module,
                spec.example_inputs,
                dynamo=True,
                dynamic_shapes=spec.dynamic_shapes,
                input_names=spec.input_names,
                output_names=spec.output_names,
                verbose=False,
            )
        model = program.model_proto
        strip_metadata(model)
        onnx.helper.set_model_props(model, spec.metadata)
        model.producer_name = "thalweg"
        model.producer_version = __version__
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()
    except Exception as error:  # an exporter given a model it cannot follow may raise anything
        raise ExportError(
            f"This model cannot be written as ONNX: {first_error_line(error)}.",
            "It may only do what torch.onnx.export can follow: no Python that depends on values of tensors.",
        ) from error


def first_error_line(error: BaseException) -> str:
    """Return what an error says first, or that which it was raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


@contextmanager
def suppress_output() -> Iterator[None]:
    """Keep the exporter's messages from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def strip_metadata(message: Any) -> None:
    """Empty every comment of an ONNX message and of all in it: PyTorch writes the paths of source files there."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                strip_metadata(part)


def onnx_runner(file: Path, input_name: str, output_names: list[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from an input array to the first output, computed by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:
        raise ExportError(f"The exported model cannot be run: {first_error_line(error)}.") from error

    def run(array: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(session.run(output_names, {input_name: array})[0])
        except Exception as error:
            shape = "x".join(map(str, array.shape))
            raise ExportError(
                f"The exported model refuses an input of {shape}: {first_error_line(error)}.", value=shape
            ) from error

    return run
