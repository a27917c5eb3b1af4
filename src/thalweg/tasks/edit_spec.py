"""What an editor knows of its generator and its axes, and the options of the task `edit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ..config.json_record import FieldError
from ..config.parsing import Range
from ..errors import OptionError, did_you_mean

#: how axes are found
Method = Literal["supervised", "pca", "sefa"]
#: the bundled generator, and what is measured on gray images by default
DEFAULT_GENERATOR = "digits-dcgan"
DEFAULT_MEASURES = ("thickness", "slant", "width")
DEFAULT_LATENTS = 2000
#: largest change that may be asked for, in standard deviations
MAX_CHANGE = 20.0


@dataclass(frozen=True)
class EditSpec:
    """The generator, the attributes that were measured, and the axes; kept in run.json."""

    generator: Annotated[str, "model of the generator"]
    generator_kwargs: Annotated[dict[str, Any], "arguments of that model"]
    channels: Annotated[int, "1 (gray) or 3 (RGB)", Range(1, 3)]
    method: Annotated[Method, "how the axes were found"]
    attributes: Annotated[list[str], "attributes that are measured"]
    means: Annotated[list[float], "mean of each attribute", Range(-1e9, 1e9)]
    scales: Annotated[list[float], "standard deviation of each attribute", Range(0, 1e9, above=True)]
    axes: Annotated[list[str], "names of the axes"]
    targets: Annotated[list[int], "index of the attribute that each axis moves", Range(0, 100_000)]

    def __post_init__(self) -> None:
        for name in ("generator_kwargs", "attributes", "axes"):
            if not getattr(self, name):
                raise FieldError(name, "at least one")
        for name, other in (("means", "attributes"), ("scales", "attributes"), ("targets", "axes")):
            if len(getattr(self, name)) != len(getattr(self, other)):
                raise FieldError(name, f"as many as {other}")
        if max(self.targets) >= len(self.attributes):
            raise FieldError("targets", f"less than {len(self.attributes)}")


@dataclass(frozen=True)
class EditTrainOptions:
    """Options of `thalweg train edit`."""

    generator: Annotated[str | None, f"run folder or bundled generator  [default: {DEFAULT_GENERATOR}]"] = None
    classifier: Annotated[str | None, "run folder or bundled classifier: its classes are attributes"] = None
    attributes: Annotated[
        str | None, "CSV of file names and numbers for the images in DATA, by default in its own folder"
    ] = None
    measure: Annotated[
        list[str] | None,
        "attributes by formula: brightness, height, slant, thickness, width  [default: thickness,slant,width]",
    ] = None
    axes: Annotated[Method, "by attributes, or without: principal components, or weights of the generator"] = (
        "supervised"
    )
    num_axes: Annotated[int, "axes that pca and sefa find", Range(1, 1000)] = 6
    num_latents: Annotated[
        int | None, f"latents that are drawn to train on  [default: {DEFAULT_LATENTS}]", Range(50, 10_000_000)
    ] = None


@dataclass(frozen=True)
class EditSampleOptions:
    """Options of `thalweg sample`."""

    count: Annotated[int, "images, or rows of a strip", Range(1, 1_000_000)] = 4
    seed: Annotated[int, "seed of the first image; the next one's is one higher", Range(0, 2**32 - 1)] = 0
    set: Annotated[dict[str, float], "change of an attribute in standard deviations, repeatable"] = field(
        default_factory=dict
    )
    way: Annotated[
        Literal["single", "strip", "sweep"], "images; a row of one attribute per image; or all attributes of each image"
    ] = "single"
    attribute: Annotated[str | None, "attribute of a strip  [default: the first]"] = None


def find_axis(spec: EditSpec, name: str, option: str) -> int:
    """Return the index of an axis by name. Raises OptionError with the names."""
    if name not in spec.axes:
        raise OptionError(
            f"--{option}: there is no attribute '{name}'; this model changes {', '.join(spec.axes)}.",
            did_you_mean(name, spec.axes),
            option=option,
            value=name,
            allowed=spec.axes,
        )
    return spec.axes.index(name)


def check_change(name: str, value: float) -> float:
    """Return a requested change. Raises OptionError for one that leaves everything that was trained."""
    if abs(value) > MAX_CHANGE:
        raise OptionError(
            f"--set {name}={value:g} is out of range; expected -{MAX_CHANGE:g} to {MAX_CHANGE:g}.",
            "Changes are in standard deviations; +2 is a lot.",
            option="set",
            value=value,
            allowed=[-MAX_CHANGE, MAX_CHANGE],
        )
    return value
